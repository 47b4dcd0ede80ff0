-- shard_find: in which shard a node belongs, and its jobs with it, for whoever has nothing but a Redis client.
--
-- KEYS[1] P            prefix of the first shard, fleet:{0}
-- ARGV[1] node         id
-- Reply   shard <prefix>
-- Cost    O(shards)
define('shard_find', function(P, node)
  id_arg(node, 'node')

  local tags = tags_of(P)
  return reply('shard', #tags > 1 and string.gsub(P, '{.*}$', '{' .. home_tag(tags, node) .. '}') or P)
end, { 'no-writes', 'allow-oom' }, 1)
