-- reaping: what time ends: heartbeats that lapsed, leases overdue, and the leases of nodes that are gone.

local LOST_KEPT_MS, TOMBSTONE_KEPT_MS = 600000, 600000
local SETTLE_BUDGET = 8000

-- node_lose: the node's heartbeat lapsed. It stays known and indexed until it is removed.
local function node_lose(S, node)
  redis.call('HSET', node_key(S.P, node.id), 'state', 'lost')
  redis.call('SREM', S.P .. ':free', node.id)
  redis.call('ZADD', S.P .. ':nodes', number_text(S.now + LOST_KEPT_MS), node.id)
  leases_orphan(S, node)
  node_changed(S, node.id)
  event(S, 'node_lost', 'node', node.id, 'incarnation', node.incarnation)
end

local function reap_nodes(S, max)
  local due, lost = redis.call('ZRANGEBYSCORE', S.P .. ':nodes', '-inf', number_text(S.now), 'LIMIT', 0, max), 0
  -- a removal touches every capability's set, so a turn is bounded by these and not by nodes alone
  local budget = 1000
  for _, id in ipairs(due) do
    if budget <= 0 then break end
    local node = node_read(S, id)
    if not node then
      redis.call('ZREM', S.P .. ':nodes', id)
    elseif node.state == 'lost' then
      budget = budget - #words(node.capabilities)
      node_drop(S, node)
      event(S, 'node_removed', 'node', id, 'reason', 'lost')
    else
      node_lose(S, node)
      lost = lost + 1
    end
  end
  return lost
end

-- orphan_reap: one job that a gone incarnation held. Returns whether an attempt ended by it.
local function orphan_reap(S, orphan, job_id)
  local node_id, incarnation = string.match(orphan, '^(.-):(.*)$')
  local job = job_read(S, job_id)
  if not job then return false end
  local ending = redis.call('HGET', S.P .. ':orphan:' .. orphan .. ':ending', job_id)
  if ending then
    redis.call('HDEL', job_key(S.P, job_id), 'ending:' .. string.match(ending, '^%S+'))
    if not job_leased(job) then redis.call('PEXPIRE', job_key(S.P, job_id), JOB_KEPT_MS) end
  end
  if not job_leased(job) or job.node ~= node_id or job.incarnation ~= incarnation then return false end
  lease_end(S, job)
  attempt_end(S, job, 'node_lost', false)
  return true
end

local function reap_orphans(S, max)
  local ended = 0
  while max > 0 do
    local orphan = redis.call('SRANDMEMBER', S.P .. ':orphans')
    if not orphan then break end
    local key = S.P .. ':orphan:' .. orphan
    local held = redis.call('ZPOPMIN', key, max)
    for i = 1, #held, 2 do
      if orphan_reap(S, orphan, held[i]) then ended = ended + 1 end
    end
    max = max - math.max(#held / 2, 1)
    if redis.call('EXISTS', key) == 0 then
      redis.call('SREM', S.P .. ':orphans', orphan)
      redis.call('DEL', key .. ':ending')
    end
  end
  return ended
end

local function reap_leases(S, max)
  local due, ended = redis.call('ZRANGEBYSCORE', S.P .. ':leases', '-inf', number_text(S.now), 'LIMIT', 0, max), 0
  for _, job_id in ipairs(due) do
    local job = job_read(S, job_id)
    if job and job_leased(job) then
      local reason = job.state == 'claimed' and 'not_acknowledged' or 'timed_out'
      attempt_end(S, job, reason, lease_end(S, job))
      ended = ended + 1
    else
      redis.call('ZREM', S.P .. ':leases', job_id)
    end
  end
  return ended
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

-- reap_due: one bounded turn of everything; max is per kind. Returns nodes lost, leases ended, jobs that ended.
local function reap_due(S, max)
  redis.call('HSET', S.P, 'reaped_ms', number_text(S.now))
  local nodes = reap_nodes(S, max)
  local ended = reap_orphans(S, max) + reap_leases(S, max)
  reap_quarantines(S, max)
  reap_tombstones(S, max)
  -- lost nodes send no heartbeat that would do it
  S.budget = SETTLE_BUDGET
  settle_some(S)
  return nodes, ended, ended
end
