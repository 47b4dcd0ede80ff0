-- node_remove: take a node out of the fleet; its leases become overdue at once and reaping ends their attempts.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] node         id
-- ARGV[2] incarnation  as returned by node_register
-- ARGV[3] by           optional: who takes it out, for the audit
-- Reply   removed | unknown | fenced
-- Cost    O(capabilities + pools)
define('node_remove', function(P, id, incarnation, by)
  id_arg(id, 'node')
  integer_arg(incarnation, 'incarnation', 1, 9007199254740992)
  by = by_arg(by)

  local S = shard_open(P)
  local node = node_read(S, id)
  if not node then return reply('unknown') end
  if node.incarnation ~= incarnation then return reply('fenced') end
  shard_write(S)
  node_drop(S, node)
  acted(S, by, 'node_removed', 'node', id, 'reason', 'left')
  return reply('removed')
end, { 'allow-oom' }, 3)
