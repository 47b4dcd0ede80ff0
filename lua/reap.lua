-- reap: end what time has ended: lapsed nodes become lost, overdue leases and those of gone nodes end their attempts.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] max          optional, of each kind in this call (32); at most 64
-- Reply   reaped <nodes> <leases> <jobs>
-- Cost    O(max)
define('reap', function(P, max)
  local limit = integer_arg(max or '32', 'max', 1, 64)

  local S = shard_open(P)
  if not S.epoch then return reply('reaped', 0, 0, 0) end
  shard_write(S)
  return reply('reaped', reap_due(S, limit))
end, { 'allow-oom' }, 1)
