-- apikey_remove: an API key ends at once, and so do the sessions that were made with it.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] apikey       id
-- ARGV[2] by           optional: who does so, for the audit
-- Reply   removed | unknown
-- Cost    O(1)
define('apikey_remove', function(P, id, by)
  apikey_arg(id, 'apikey')
  by = by_arg(by)

  local S = shard_open(P)
  configured_here(P)
  if redis.call('HEXISTS', P .. ':apikeys', id) == 0 then return reply('unknown') end
  shard_write(S)
  redis.call('HDEL', P .. ':apikeys', id)
  redis.call('ZREM', P .. ':apikeys_ending', id)
  apikeys_changed(S)
  audited(S, by, 'apikey_removed', 'apikey', id)
  return reply('removed')
end, { 'allow-oom' }, 2)
