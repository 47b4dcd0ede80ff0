-- shard_init: tell the shard which shards the fleet has. It may change while the shard has no node and no job.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] tags         "<tag> <tag> …", this shard's among them; 1 to 128
-- ARGV[2] restore      optional, 1: only where the shard was emptied and has none; then also with nodes in it
-- Reply   initialised | busy nodes|jobs | other "<tag> …" (those that it has)
-- Cost    O(tags)
define('shard_init', function(P, text, restore)
  local tags, seen = words(text), {}
  check(#tags >= 1 and #tags <= 128, 'tags', 'must be 1 to 128')
  for _, tag in ipairs(tags) do
    check(#tag <= 32 and string.find(tag, '^%w+$') and not seen[tag], 'tags', 'must be distinct, of A-Z a-z 0-9, at most 32')
    seen[tag] = true
  end
  check(seen[tag_of(P)], 'tags', "must have this shard's own")
  check(restore == nil or restore == '1', 'restore', 'must be 1')

  local S = shard_open(P)
  local list, held = table.concat(tags, ' '), table.concat(tags_of(P), ' ')
  if held == list then return reply('initialised') end
  if restore then
    if held ~= '' then return reply('other', held) end
  else
    if redis.call('EXISTS', P .. ':nodes') == 1 then return reply('busy', 'nodes') end
    if redis.call('EXISTS', P .. ':leases', P .. ':pending', P .. ':moved', P .. ':orphans') > 0 then return reply('busy', 'jobs') end
  end
  shard_write(S)
  redis.call('HSET', P, 'shards', #tags, 'tags', list)
  event(S, 'shard_initialised', 'shards', #tags)
  return reply('initialised')
end, {}, 2)
