-- tenants_apply: replace all rows in one step: a copy for another shard, or what the first one forgot.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] seen         the tenants_version that the caller has seen; 0 where there never was a row
-- ARGV[2] json         {tenant: as in tenant_put}
-- ARGV[3] source       optional: this is a copy of the first shard's rows of that version; seen does not count
-- Reply   applied <tenants_version> | changed <tenants_version>
-- Cost    O(rows), at most 1,000 of them, and one bounded turn for the jobs that wait
local ROWS_BYTES_MAX = 262144

define('tenants_apply', function(P, seen, json, source)
  integer_arg(seen, 'seen', 0, 9007199254740992)
  if source then integer_arg(source, 'source', 1, 9007199254740992) end
  check(json and #json <= ROWS_BYTES_MAX, 'json', 'must be at most ' .. ROWS_BYTES_MAX .. ' bytes')
  local rows = {}
  for tenant, row in pairs(decode_arg(cjson.decode, json, 'json')) do
    tenant_arg(type(tenant) == 'string' and tenant)
    rows[#rows + 1] = tenant
    rows[#rows + 1] = quota_text(row, tenant .. '.')
    check(#rows <= 2 * QUOTAS_MAX, 'json', 'must be at most ' .. QUOTAS_MAX .. ' rows')
  end

  local S = shard_open(P)
  if apply_late(S, 'tenants', seen, source) then return reply('changed', S.tenants_version) end
  shard_write(S)
  if source then redis.call('HSET', P, 'tenants_source', source) end
  redis.call('DEL', P .. ':tenants')
  for i = 1, #rows, 2 do redis.call('HSET', P .. ':tenants', rows[i], rows[i + 1]) end
  tenants_changed(S)
  event(S, 'tenants_applied', 'tenants', #rows / 2)
  serve_roomy(S)
  return reply('applied', S.tenants_version)
end, {}, 3)
