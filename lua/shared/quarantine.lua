-- quarantine: a node that fails job after job is always empty and would attract everything; it is set aside for a while.
-- The rule is that of Envoy's outlier detection: times that double with each ejection, and never too many at once.

-- Half of a score is forgotten in SCORE_HALF_MS; FAILURES_MAX is nearly five failures in a row.
local SCORE_HALF_MS, FAILURES_MAX, FAILURES_AFTER = 120000, 4.5, 4
local QUARANTINE_MS, QUARANTINE_MAX_MS = 10000, 300000

-- node_release: the node may take jobs again, but one more failure sets it aside for twice as long.
local function node_release(S, node)
  redis.call('HDEL', node_key(S.P, node.id), 'quarantined_until_ms')
  redis.call('ZREM', S.P .. ':quarantined', node.id)
  node.quarantined_until_ms = false
  node_settle(S, node, true)
  event(S, 'node_released', 'node', node.id)
end

-- quarantine_full: half of the shard's nodes, or of those of one of its pools, are set aside already (lost ones do not
-- count): rather the jobs are at fault than the nodes. A tenant whose jobs fail must not take a pool away from the others that use it.
local function quarantine_full(S, pools)
  local key, lost = S.P .. ':quarantined', S.P .. ':lost'
  local function half(count) return math.max(math.floor(count / 2), 1) end
  if redis.call('ZCARD', key) >= half(redis.call('ZCARD', S.P .. ':nodes') - redis.call('ZCARD', lost)) then return true end
  for _, name in ipairs(words(pools)) do
    local pool = S.P .. ':pool:' .. name
    local most = half(redis.call('SCARD', pool) - redis.call('ZINTERCARD', 2, lost, pool))
    if redis.call('ZINTERCARD', 2, key, pool, 'LIMIT', most) >= most then return true end
  end
  return false
end

-- node_blame: a job failed on this incarnation of the node, was not acknowledged by it, or ran out of its time there.
local function node_blame(S, id, incarnation, reason)
  local key = node_key(S.P, id)
  local held = redis.call('HMGET', key, 'incarnation', 'failures', 'failed_ms', 'quarantines', 'quarantined_until_ms',
    'pools')
  if held[1] ~= incarnation or held[5] then return end
  -- an operator's uncordon comes before the end from which forgetting counts
  local passed_ms = math.max(S.now - (tonumber(held[3]) or S.now), 0)
  local score = (tonumber(held[2]) or 0) * 0.5 ^ (passed_ms / SCORE_HALF_MS) + 1
  if score < FAILURES_MAX or quarantine_full(S, held[6] or '') then
    redis.call('HSET', key, 'failures', string.format('%.3f', score), 'failed_ms', number_text(S.now))
    return
  end
  local times = tonumber(held[4]) or 0
  local ms = math.min(QUARANTINE_MS * 2 ^ times, QUARANTINE_MAX_MS)
  local until_ms = number_text(S.now + ms)
  redis.call('HSET', key, 'failures', FAILURES_AFTER, 'failed_ms', until_ms, 'quarantines', times + 1,
    'quarantined_until_ms', until_ms)
  redis.call('ZADD', S.P .. ':quarantined', until_ms, id)
  redis.call('SREM', S.P .. ':free', id)
  node_changed(S, id)
  event(S, 'node_quarantined', 'node', id, 'reason', reason, 'ms', number_text(ms))
end

-- node_praise: a job succeeded: half of the score is forgiven, and all of it when little is left.
local function node_praise(S, id, incarnation)
  local key = node_key(S.P, id)
  local held = redis.call('HMGET', key, 'failures', 'incarnation')
  if not held[1] or held[2] ~= incarnation then return end
  local score = tonumber(held[1]) / 2
  if score < 0.5 then
    redis.call('HDEL', key, 'failures', 'failed_ms', 'quarantines')
  else
    redis.call('HSET', key, 'failures', string.format('%.3f', score))
  end
end
