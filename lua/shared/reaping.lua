-- reaping: what time ends: heartbeats that lapsed, leases overdue, and the leases of nodes that are gone.

local LOST_KEPT_MS, TOMBSTONE_KEPT_MS = 600000, 600000
local MASS_LEAST, MASS_PAUSE_MS = 10, 30000

-- reaped_count: count what time has ended, for whoever asks how much that was since the shard is there.
local function reaped_count(S, what, count)
  if count > 0 then redis.call('HINCRBY', S.P, 'reaped_' .. what, count) end
end

-- node_lose: the node's heartbeat lapsed. It stays known and indexed until it is removed.
local function node_lose(S, node)
  redis.call('HSET', node_key(S.P, node.id), 'state', 'lost')
  redis.call('SREM', S.P .. ':free', node.id)
  local forgotten_ms = number_text(S.now + LOST_KEPT_MS)
  redis.call('ZADD', S.P .. ':nodes', forgotten_ms, node.id)
  redis.call('ZADD', S.P .. ':lost', forgotten_ms, node.id)
  leases_orphan(S, node)
  node_changed(S, node.id)
  reaped_count(S, 'nodes', 1)
  event(S, 'node_lost', 'node', node.id, 'incarnation', node.incarnation)
end

local function paused_since(S) return tonumber(redis.call('HGET', S.P, 'paused_ms') or nil) end

-- mass_lapse: more than half of at least ten nodes lapsed at once. That is rather the network than the nodes: for half a
-- minute they are neither lost nor given jobs.
local function mass_lapse(S)
  local now, paused_ms = number_text(S.now), paused_since(S)
  local known = redis.call('ZCARD', S.P .. ':nodes') - redis.call('ZCARD', S.P .. ':lost')
  local lapsed = redis.call('ZCOUNT', S.P .. ':nodes', '-inf', now) - redis.call('ZCOUNT', S.P .. ':lost', '-inf', now)
  if known < MASS_LEAST or lapsed * 2 <= known then
    if paused_ms then redis.call('HDEL', S.P, 'paused_ms') end
    return false
  end
  if not paused_ms then
    paused_ms = S.now
    redis.call('HSET', S.P, 'paused_ms', now)
    event(S, 'reaping_paused', 'lapsed', lapsed, 'nodes', known)
  end
  return S.now - paused_ms < MASS_PAUSE_MS
end

-- reaping_pauses: whether nodes that lapsed are kept now. It reads only; reaping says when the pause began.
local function reaping_pauses(S)
  local paused_ms = paused_since(S)
  return paused_ms and S.now - paused_ms < MASS_PAUSE_MS
end

-- node_lapse: a node that was met after its heartbeat lapsed takes no job, and is lost unless too many are.
local function node_lapse(S, node)
  redis.call('SREM', S.P .. ':free', node.id)
  if node.state ~= 'lost' and not mass_lapse(S) then node_lose(S, node) end
end

local function reap_nodes(S, max)
  local due, lost = redis.call('ZRANGEBYSCORE', S.P .. ':nodes', '-inf', number_text(S.now), 'LIMIT', 0, max), 0
  -- a removal touches every capability's set, so a turn is bounded by these and not by nodes alone
  -- asked also with nothing due: a pause that is over must not count as one of the next
  local budget, paused = 1000, (#due > 0 or paused_since(S)) and mass_lapse(S)
  for _, id in ipairs(due) do
    if budget <= 0 then break end
    local node = node_read(S, id)
    if not node then
      redis.call('ZREM', S.P .. ':nodes', id)
    elseif node.state == 'lost' then
      budget = budget - #words(node.capabilities)
      node_drop(S, node)
      event(S, 'node_removed', 'node', id, 'reason', 'lost')
    elseif not paused then
      node_lose(S, node)
      lost = lost + 1
    end
  end
  return lost
end

-- orphan_reap: one job that a gone incarnation held. Returns whether an attempt ended by it, and the job.
local function orphan_reap(S, orphan, job_id)
  local node_id, incarnation = string.match(orphan, '^(.-):(.*)$')
  local job = job_read(S, job_id)
  if not job then return false end
  local ending = redis.call('HGET', S.P .. ':orphan:' .. orphan .. ':ending', job_id)
  if ending then
    linger_over(S, job, string.match(ending, '^%S+'))
    tenant_serve(S, job.tenant)
  end
  if not job_leased(job) or job.node ~= node_id or job.incarnation ~= incarnation then return false end
  lease_end(S, job)
  return true, attempt_end(S, job, 'node_lost')
end

local function reap_orphans(S, max)
  local ended, over = 0, 0
  while max > 0 do
    local orphan = redis.call('SRANDMEMBER', S.P .. ':orphans')
    if not orphan then break end
    local key = S.P .. ':orphan:' .. orphan
    local held = redis.call('ZPOPMIN', key, max)
    for i = 1, #held, 2 do
      local attempt, job = orphan_reap(S, orphan, held[i])
      if attempt then ended = ended + 1 end
      if job then over = over + 1 end
    end
    max = max - math.max(#held / 2, 1)
    if redis.call('EXISTS', key) == 0 then
      redis.call('SREM', S.P .. ':orphans', orphan)
      redis.call('DEL', key .. ':ending')
    end
  end
  return ended, over
end

local function reap_leases(S, max)
  local due, ended = redis.call('ZRANGEBYSCORE', S.P .. ':leases', '-inf', number_text(S.now), 'LIMIT', 0, max), 0
  local over = 0
  for _, job_id in ipairs(due) do
    local job = job_read(S, job_id)
    if job and job_leased(job) then
      local reason = job.state == 'claimed' and 'not_acknowledged' or 'timed_out'
      -- before its slot is free, or a waiting job would get it
      if job.deliver ~= 'direct' then node_blame(S, job.node, job.incarnation, reason) end
      lease_end(S, job)
      if attempt_end(S, job, reason) then over = over + 1 end
      ended = ended + 1
    elseif not hold_drop(S, job_id) then
      redis.call('ZREM', S.P .. ':leases', job_id)
    end
  end
  return ended, over
end

local function reap_quarantines(S, max)
  local due = redis.call('ZRANGEBYSCORE', S.P .. ':quarantined', '-inf', number_text(S.now), 'LIMIT', 0, max)
  for _, id in ipairs(due) do node_release(S, node_read(S, id)) end
end

local function reap_tombstones(S, max)
  local horizon = number_text(S.now - TOMBSTONE_KEPT_MS)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', S.P .. ':removed', '-inf', horizon, 'LIMIT', 0, max)) do
    local version = tonumber(redis.call('ZSCORE', S.P .. ':changed', id)) or 0
    local floor = tonumber(redis.call('HGET', S.P, 'floor')) or 0
    redis.call('HSET', S.P, 'floor', number_text(math.max(floor, version)))
    redis.call('ZREM', S.P .. ':changed', id)
    redis.call('ZREM', S.P .. ':removed', id)
  end
end
