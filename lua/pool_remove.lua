-- pool_remove: take one pool out. Its nodes stay; they leave it with their next heartbeats or claims.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] pool         id; no other pool may name it as a fallback
-- Reply   removed | unknown
-- Cost    O(pools)
define('pool_remove', function(P, id)
  id_arg(id, 'pool')

  local S = shard_open(P)
  if redis.call('HEXISTS', P .. ':pools', id) == 0 then return reply('unknown') end
  for other, pool in pairs(pool_config(S).pools) do
    for _, fallback in ipairs(pool.fallback) do
      check(fallback ~= id, 'pool', 'is a fallback of ' .. other .. ': change that one first')
    end
  end
  shard_write(S)
  redis.call('HDEL', P .. ':pools', id)
  config_changed(S)
  event(S, 'pool_removed', 'pool', id)
  return reply('removed')
end, { 'allow-oom' }, 1)
