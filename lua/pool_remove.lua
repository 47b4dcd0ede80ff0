-- pool_remove: take one pool out. Its nodes stay; they leave it with their next heartbeats or claims.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] pool         id; no other pool nor the language pools may name it as a fallback, nor may it be one of these
-- ARGV[2] by           optional: who takes it out, for the audit
-- Reply   removed | unknown
-- Cost    O(pools)
define('pool_remove', function(P, id, by)
  id_arg(id, 'pool')
  by = by_arg(by)

  local S = shard_open(P)
  configured_here(P)
  if redis.call('HEXISTS', P .. ':pools', id) == 0 then return reply('unknown') end
  local config = pool_config(S)
  check(not config.pools[id].languages, 'pool', 'is automatic: it goes with its last node')
  local function spare(other, fallbacks)
    for _, fallback in ipairs(fallbacks or {}) do
      check(fallback ~= id, 'pool', 'is a fallback of ' .. other .. ': change that first')
    end
  end
  for other, pool in pairs(config.pools) do
    if not pool.languages then spare(other, pool.fallback) end
  end
  if config.language_pools then spare('the language pools', config.language_pools.fallback) end
  shard_write(S)
  redis.call('HDEL', P .. ':pools', id)
  config_changed(S)
  acted(S, by, 'pool_removed', 'pool', id)
  return reply('removed')
end, { 'allow-oom' }, 2)
