-- shard_freeze: stop the shard while its hash slot moves to another server, or let it go on.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] what         freeze | thaw
--                      while it is frozen every function answers "moving" and changes nothing; its clock stands still
-- Reply   frozen | thawed
-- Cost    O(1)
define('shard_freeze', function(P, what)
  check(what == 'freeze' or what == 'thaw', 'what', 'must be freeze or thaw')

  local S, frozen = shard_open(P, true), redis.call('HEXISTS', P, 'frozen') == 1
  if what == 'freeze' and not frozen then
    shard_write(S)
    redis.call('HSET', P, 'frozen', 1)
    event(S, 'shard_frozen')
  elseif what == 'thaw' and frozen then
    redis.call('HDEL', P, 'frozen')
    event(S, 'shard_thawed')
  end
  return reply(what == 'freeze' and 'frozen' or 'thawed')
end, { 'allow-oom' }, 1)
