-- shard_init: tell the shard which shards the fleet has. It may change while the shard has no node and no job.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] tags         "<tag> <tag> …", this shard's among them; 1 to 128
-- ARGV[2] restore      optional, 1: only where the shard was emptied and has none; then also with nodes in it
--                      look: change nothing, and say what would be answered
-- Reply   initialised | busy nodes|jobs | other "<tag> …" (those that it has)
-- Cost    O(tags)
define('shard_init', function(P, tags, restore)
  local list, seen = words(tags), {}
  check(#list >= 1 and #list <= 128, 'tags', 'must be 1 to 128')
  for _, tag in ipairs(list) do
    check(#tag <= 32 and string.find(tag, '^%w+$') and not seen[tag], 'tags',
      'must be distinct, of A-Z a-z 0-9, at most 32')
    seen[tag] = true
  end
  check(seen[tag_of(P)], 'tags', "must have this shard's own")
  check(restore == nil or restore == '1' or restore == 'look', 'restore', 'must be 1 or look')

  local S = shard_open(P)
  local all, held = table.concat(list, ' '), table.concat(tags_of(P), ' ')
  if held == all then return reply('initialised') end
  if restore == '1' then
    if held ~= '' then return reply('other', held) end
  -- a fleet that nobody has divided has its one shard already
  elseif held ~= '' or all ~= tag_of(P) then
    if redis.call('EXISTS', P .. ':nodes') == 1 then return reply('busy', 'nodes') end
    local jobs = redis.call('EXISTS', P .. ':leases', P .. ':pending', P .. ':moved', P .. ':orphans')
    if jobs > 0 then return reply('busy', 'jobs') end
  end
  if restore == 'look' then return reply('initialised') end
  shard_write(S)
  redis.call('HSET', P, 'shards', #list, 'tags', all)
  -- what the shard may give of each quota is another part now
  if S.tenants_version ~= '0' then tenants_changed(S) end
  event(S, 'shard_initialised', 'shards', #list)
  return reply('initialised')
end, {}, 2)
