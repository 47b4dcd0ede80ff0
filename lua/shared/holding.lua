-- holding: a slot that is kept for a moment under a token of its own, for a job whose place more than one shard decides.
-- It stands among the leases of its node, so it counts as used; it lapses like a lease, and then nothing can be made of it.

-- How long a token that is over is known, so that a call to hold that comes late or twice cannot bring it back.
local HOLD_KEPT_MS = 60000

local function hold_key(S, token) return S.P .. ':hold:' .. token end

local function hold_over(S, token)
  redis.call('SET', hold_key(S, token), '', 'PX', HOLD_KEPT_MS)
  redis.call('ZREM', S.P .. ':leases', token)
end

-- hold_read: node, incarnation, pool, configuration and tenant of a held slot, nil where none is held; and whether one was
local function hold_read(S, token)
  local held = redis.call('GET', hold_key(S, token))
  if not held or held == '' then return nil, held == '' end
  return words(held), true
end

local function hold_write(S, claim, node)
  lease_put(S, node.id, claim.hold, number_text(S.now + claim.hold_ms))
  redis.call('SET', hold_key(S, claim.hold),
    table.concat({ node.id, node.incarnation, node.pool, S.config_version, claim.tenant }, ' '))
  tenant_took(S, claim.tenant, claim.hold, number_text(S.time_us))
  slot_taken(S, node)
  return { 'held', claim.loads or {} }
end

-- hold_drop: give the slot back, if it is still held. Returns whether it was.
local function hold_drop(S, token)
  local held = hold_read(S, token)
  if not held then return false end
  hold_over(S, token)
  lease_free(S, held[1], token, held[5])
  return true
end

-- hold_take: the held slot as a node that a job can be given a slot on; nil where the hold lapsed, or where its node is
-- another process now, takes no more jobs or may have left the pool.
local function hold_take(S, token)
  local held = hold_read(S, token)
  if not held then return nil end
  local node = node_read(S, held[1])
  if not node or node.incarnation ~= held[2] or node.state ~= 'ready' or held[4] ~= S.config_version
    or not redis.call('ZSCORE', leases_key(S.P, node.id), token) then
    hold_drop(S, token)
    return nil
  end
  hold_over(S, token)
  tenant_left(S, held[5], token)
  redis.call('ZREM', leases_key(S.P, node.id), token)
  return { id = node.id, incarnation = node.incarnation, pool = held[3], endpoint = node.endpoint, slots = node.slots,
    used = node_used(S, node.id) }
end
