-- tenant_lend: give another shard a part of what this one may give a tenant, or take such a part: their sum stays.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] tenant       id
-- ARGV[2] quota        concurrent_jobs | waiting_jobs
-- ARGV[3] direction    give | take
-- ARGV[4] count        1 to 1,000,000; a shard gives only what the tenant does not use
-- ARGV[5] version      for take: of the quotas by which the other shard gave
-- Reply   given <count> <version> | taken | changed (the quotas are others by now: what was given is theirs no more)
-- Cost    O(1), to take also one bounded turn for the jobs that wait
define('tenant_lend', function(P, tenant, quota, direction, count, version)
  id_arg(tenant, 'tenant')
  check(quota == 'concurrent_jobs' or quota == 'waiting_jobs', 'quota', 'must be concurrent_jobs or waiting_jobs')
  check(direction == 'give' or direction == 'take', 'direction', 'must be give or take')
  local wanted = integer_arg(count, 'count', 1, 1000000)
  check((direction == 'take') == (version ~= nil), 'version', 'must be given to take')
  if version then integer_arg(version, 'version', 0, 9007199254740992) end

  local S = shard_open(P)
  local held = redis.call('HGET', P, 'tenants_source') or S.tenants_version
  if direction == 'take' then
    if version ~= held then return reply('changed') end
    shard_write(S)
    redis.call('HINCRBY', P .. ':lent', quota .. ' ' .. tenant, wanted)
    serve_roomy(S)
    return reply('taken')
  end
  local most = tenant_most(S, tenant, quota)
  local used = most and (quota == 'waiting_jobs' and tenant_waiting(S, tenant)
    or redis.call('ZCARD', tenant_leases_key(S, tenant))) or 0
  local given = math.min(wanted, (most or 0) - used)
  if given <= 0 then return reply('given', 0, held) end
  shard_write(S)
  redis.call('HINCRBY', P .. ':lent', quota .. ' ' .. tenant, -given)
  return reply('given', given, held)
end, {}, 5)
