-- claiming: the writes that give a job a slot on a chosen node, and what its caller is told.

local SESSION_STICKY_MS, SESSION_SPREAD_MS = 1800000, 30000

local function session_key(S, claim) return S.P .. ':session:' .. claim.tenant .. ':' .. claim.session end

-- job_fields: what a job needs besides its claim; what is left out has the default that this library names.
local JOB_OPTIONS = { 'payload', 'ack_ms', 'timeout_ms', 'max_attempts', 'retry_failed', 'priority', 'deliver', 'session',
  'affinity', 'exclude' }

local function job_create(S, claim)
  local written = { 'tenant', claim.tenant, 'demand', claim.demand, 'digest', claim.digest,
    'created_at_ms', number_text(S.time_ms) }
  for _, name in ipairs(JOB_OPTIONS) do
    if claim[name] then
      written[#written + 1] = name
      written[#written + 1] = claim[name]
    end
  end
  return written
end

-- claim_write: give the job a slot on the node: lease, fence, delivery, in that one step.
local function claim_write(S, claim, node, written)
  local P, id, fence = S.P, claim.id, unique_number(S, claim.last_fence)
  local ack_ms, attempt = tonumber(claim.ack_ms) or ACK_MS, (claim.attempt or 0) + 1
  lease_put(S, node.id, id, number_text(S.now + ack_ms))
  if claim.deliver ~= 'direct' then
    written[#written + 1] = 'entry'
    written[#written + 1] = redis.call('XADD', inbox_key(P, node.id), '*', 'kind', 'job', 'job', id, 'fence', fence)
  end
  local lease_expires_at_ms = number_text(S.time_ms + ack_ms)
  local count = #written
  for i, word in ipairs({ 'state', 'claimed', 'node', node.id, 'incarnation', node.incarnation, 'pool', node.pool,
    'fence', fence, 'attempt', attempt, 'lease_expires_at_ms', lease_expires_at_ms }) do
    written[count + i] = word
  end
  redis.call('HSET', job_key(P, id), unpack(written))
  if claim.session and claim.affinity then
    redis.call('SET', session_key(S, claim), node.id, 'PX',
      claim.affinity == 'sticky' and SESSION_STICKY_MS or SESSION_SPREAD_MS)
  end
  if node.used + 1 >= node.slots then
    redis.call('SREM', P .. ':free', node.id)
    node_changed(S, node.id)
  end
  return reply('placed', id, node.id, node.endpoint, node.pool, fence, attempt, lease_expires_at_ms)
end
