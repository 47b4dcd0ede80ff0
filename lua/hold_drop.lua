-- hold_drop: give back a slot that was held for a job that is not to have it.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] hold         the token
-- Reply   dropped | unknown
-- Cost    O(log leases)
define('hold_drop', function(P, hold)
  id_arg(hold, 'hold')

  local S = shard_open(P)
  if not hold_read(S, hold) then return reply('unknown') end
  shard_write(S)
  hold_drop(S, hold)
  return reply('dropped')
end, { 'allow-oom' }, 1)
