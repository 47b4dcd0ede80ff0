-- node_mark: an operator's word: cordon (no new claims), uncordon (out of quarantine, too), drain (cordon, and the node is asked to empty).
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] node         id
-- ARGV[2] mark         cordon | uncordon | drain
-- ARGV[3] drain_ms     optional, with drain: until when running jobs may finish (30000)
-- ARGV[4] by           optional: who says so, for the audit; drain_ms may be '' then
-- Reply   marked <state> | unknown
-- Cost    O(1)
local MARKS = { cordon = 'cordoned', uncordon = 'ready', drain = 'draining' }

define('node_mark', function(P, id, mark, drain_ms, by)
  id_arg(id, 'node')
  check(mark and MARKS[mark], 'mark', 'must be cordon, uncordon or drain')
  by, drain_ms = by_arg(by), drain_ms ~= '' and drain_ms or nil
  check(not drain_ms or mark == 'drain', 'drain_ms', 'goes with drain only')
  local allowed_ms = integer_arg(drain_ms or '30000', 'drain_ms', 0, 86400000)

  local S = shard_open(P)
  local node = node_read(S, id)
  if not node or node.state == 'lost' then return reply('unknown') end
  shard_write(S)
  if mark == 'uncordon' and node.quarantined_until_ms then node_release(S, node) end
  if node.state == MARKS[mark] and mark ~= 'drain' then return reply('marked', node.state) end
  node.state = MARKS[mark]
  redis.call('HSET', node_key(P, id), 'state', node.state)
  if mark == 'drain' then
    redis.call('HSET', node_key(P, id), 'drain_until_ms', number_text(S.now + allowed_ms))
  else
    redis.call('HDEL', node_key(P, id), 'drain_until_ms')
  end
  node_settle(S, node)
  node_changed(S, id)
  acted(S, by, 'node_' .. node.state, 'node', id)
  return reply('marked', node.state)
end, { 'allow-oom' }, 4)
