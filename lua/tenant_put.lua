-- tenant_put: store what a tenant may have at most. What it has beyond that stays; nothing more is given until it fits.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] tenant       id, or * for all tenants that have no row of their own
-- ARGV[2] json         each optional: concurrent_jobs, waiting_jobs, requests_per_s, payload_bytes
-- ARGV[3] by           optional: who stores it, for the audit
-- Reply   stored <tenants_version>
-- Cost    O(1), and one bounded turn for the jobs that wait; at most 1,000 rows
define('tenant_put', function(P, tenant, json, by)
  tenant_arg(tenant)
  check(json and #json <= 1024, 'json', 'must be at most 1024 bytes')
  by = by_arg(by)
  local text = quota_text(decode_arg(cjson.decode, json, 'json'), '')

  local S = shard_open(P)
  configured_here(P)
  local held = redis.call('HGET', P .. ':tenants', tenant)
  if held == text then return reply('stored', S.tenants_version) end
  check(held or redis.call('HLEN', P .. ':tenants') < QUOTAS_MAX, 'tenant', 'would be one more than ' .. QUOTAS_MAX .. ' rows')
  shard_write(S)
  redis.call('HSET', P .. ':tenants', tenant, text)
  tenants_changed(S)
  acted(S, by, 'tenant_stored', 'tenant', tenant)
  serve_roomy(S)
  return reply('stored', S.tenants_version)
end, {}, 3)
