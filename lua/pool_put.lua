-- pool_put: store one pool. Its members follow with their next heartbeats, or with the claims that meet them first.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] pool         id
-- ARGV[2] json         selector {capabilities, labels} or {all: true}; optional: tenants, fallback, strategy, priority, d
-- ARGV[3] by           optional: who stores it, for the audit
-- Reply   stored <config_version>
-- Cost    O(pools); decodes the whole configuration, at most 200 pools of 8,192 bytes
define('pool_put', function(P, id, json, by)
  id_arg(id, 'pool')
  check(json and #json <= POOL_BYTES_MAX, 'json', 'must be at most ' .. POOL_BYTES_MAX .. ' bytes')
  by = by_arg(by)
  local pool = decode_arg(cjson.decode, json, 'json')
  pool_checked(pool, '')
  local text = stored_checked(pool, 'json')

  local S = shard_open(P)
  configured_here(P)
  local pools, count = {}, 0
  for name, held in pairs(S.config_version ~= '0' and pool_config(S).pools or {}) do
    pools[name] = held
    if not held.languages and name ~= id then count = count + 1 end
  end
  check(count < POOLS_MAX, 'pool', 'would be one more than ' .. POOLS_MAX .. ' pools')
  pools[id] = pool
  -- what another pool of a cycle names is this call's fault, too
  fallbacks_checked(pools, function() return '' end)

  if redis.call('HGET', P .. ':pools', id) == text then return reply('stored', S.config_version) end
  shard_write(S)
  redis.call('HSET', P .. ':pools', id, text)
  config_changed(S)
  acted(S, by, 'pool_stored', 'pool', id)
  return reply('stored', S.config_version)
end, {}, 3)
