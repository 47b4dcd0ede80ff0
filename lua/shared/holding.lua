-- holding: a slot that is kept for a moment under a token of its own, for a job whose place more than one shard decides.
-- It stands among the leases of its node, so it counts as used; it lapses like a lease, and then nothing can be made of it.

local function hold_key(S, token) return S.P .. ':hold:' .. token end

local function hold_write(S, claim, node)
  lease_put(S, node.id, claim.hold, number_text(S.now + claim.hold_ms))
  redis.call('HSET', hold_key(S, claim.hold), 'node', node.id, 'incarnation', node.incarnation, 'pool', node.pool,
    'config_version', S.config_version)
  slot_taken(S, node)
  return { 'held', claim.loads or {} }
end

-- hold_drop: give the slot back, if it is still held. Returns whether it was.
local function hold_drop(S, token)
  local node = redis.call('HGET', hold_key(S, token), 'node')
  if not node then return false end
  redis.call('DEL', hold_key(S, token))
  redis.call('ZREM', S.P .. ':leases', token)
  slot_free(S, node, token)
  return true
end

-- hold_take: the held slot as a node that a job can be given a slot on; nil where the hold lapsed, or where its node is
-- another process now or may have left the pool.
local function hold_take(S, token)
  local held = redis.call('HMGET', hold_key(S, token), 'node', 'incarnation', 'pool', 'config_version')
  if not held[1] then return nil end
  local node = node_read(S, held[1])
  if not node or node.incarnation ~= held[2] or held[4] ~= S.config_version
    or not redis.call('ZSCORE', leases_key(S.P, node.id), token) then
    hold_drop(S, token)
    return nil
  end
  redis.call('DEL', hold_key(S, token))
  redis.call('ZREM', S.P .. ':leases', token)
  redis.call('ZREM', leases_key(S.P, node.id), token)
  return { id = node.id, incarnation = node.incarnation, pool = held[3], endpoint = node.endpoint, slots = node.slots,
    used = node_used(S, node.id) }
end
