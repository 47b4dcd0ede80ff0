-- jobs: a job's record, its lease, and the ends of an attempt and of a job.

local JOB_KEPT_MS = 3600000
local ACK_MS, TIMEOUT_MS, MAX_ATTEMPTS = 10000, 600000, 3
local RESULT_MAX = 262144
local JOB_FIELDS = { 'state', 'fence', 'node', 'incarnation', 'tenant', 'deliver', 'entry', 'timeout_ms', 'attempt',
  'max_attempts', 'digest', 'pool', 'started_ms', 'lingering', 'queue' }

-- Defined in serving.lua, for they place again what ended here.
local attempt_end

-- job_read: the job's hash as a table with its id, or nil; payload and result stay in Redis.
local function job_read(S, id)
  local values = redis.call('HMGET', job_key(S.P, id), unpack(JOB_FIELDS))
  if not values[1] then return nil end
  local job = { id = id }
  for i, name in ipairs(JOB_FIELDS) do job[name] = values[i] end
  return job
end

local function job_leased(job) return job.state == 'claimed' or job.state == 'running' end

-- lease_put: the one lease of a job, or its new deadline (shard clock).
local function lease_put(S, node, job, deadline_ms)
  redis.call('ZADD', leases_key(S.P, node), deadline_ms, job)
  redis.call('ZADD', S.P .. ':leases', deadline_ms, job)
end

-- slot_taken: a lease more on a node that was free; the last one fills it.
local function slot_taken(S, node)
  if node.used + 1 < node.slots then return end
  redis.call('SREM', S.P .. ':free', node.id)
  node_changed(S, node.id)
end

-- slot_free: the node's slot that the job held is free again; a full node becomes free with it.
local function slot_free(S, node_id, job)
  if redis.call('ZREM', leases_key(S.P, node_id), job) == 0 then return end
  if redis.call('SISMEMBER', S.P .. ':free', node_id) == 1 then return end
  local node = node_read(S, node_id)
  if node then node_settle(S, node) end
end

-- lease_free: the slot that the job held is free again, and its tenant has a lease less: what waits for either gets it.
local function lease_free(S, node_id, job, tenant, member)
  tenant_left(S, tenant, member or job)
  slot_free(S, node_id, job)
  tenant_serve(S, tenant)
end

local function inbox_forget(S, job)
  if job.entry then redis.call('XDEL', inbox_key(S.P, job.node), job.entry) end
end

-- attempt_linger: the job's attempt is over but the node may still be at work: the slot stays taken, under the
-- attempt's fence, until the node confirms (ending_confirm) or is lost.
local function attempt_linger(S, job)
  local entry = redis.call('XADD', inbox_key(S.P, job.node), '*', 'kind', 'cancel', 'job', job.id, 'fence', job.fence)
  redis.call('ZREM', S.P .. ':leases', job.id)
  redis.call('HSET', ending_key(S.P, job.node), job.id, job.fence .. ' ' .. entry)
  redis.call('HSET', job_key(S.P, job.id), 'ending:' .. job.fence, job.node)
  tenant_left(S, job.tenant, job.id)
  tenant_took(S, job.tenant, job.id .. ' ' .. job.fence, job.fence)
  job.lingering = redis.call('HINCRBY', job_key(S.P, job.id), 'lingering', 1)
end

-- linger_over: one attempt less that a node owes a confirmation for; an ended job is kept for an hour from the last on.
local function linger_over(S, job, fence)
  if redis.call('HDEL', job_key(S.P, job.id), 'ending:' .. fence) == 0 then return end
  tenant_left(S, job.tenant, job.id .. ' ' .. fence)
  job.lingering = redis.call('HINCRBY', job_key(S.P, job.id), 'lingering', -1)
  if job.lingering > 0 then return end
  redis.call('HDEL', job_key(S.P, job.id), 'lingering')
  if not job_leased(job) and job.state ~= 'pending' then redis.call('PEXPIRE', job_key(S.P, job.id), JOB_KEPT_MS) end
end

-- ending_confirm: the node is done with an attempt that had ended without it.
local function ending_confirm(S, job, fence)
  local node = redis.call('HGET', job_key(S.P, job.id), 'ending:' .. fence)
  if not node then return end
  local held = redis.call('HGET', ending_key(S.P, node), job.id)
  linger_over(S, job, fence)
  if held and string.match(held, '^%S+') == fence then
    redis.call('HDEL', ending_key(S.P, node), job.id)
    redis.call('XDEL', inbox_key(S.P, node), string.match(held, '%S+$'))
    slot_free(S, node, job.id)
  end
  tenant_serve(S, job.tenant)
end

-- job_orphaned: the job's node is gone or is another process now, and its lease was set apart with it.
local function job_orphaned(S, job) return not redis.call('ZSCORE', leases_key(S.P, job.node), job.id) end

-- lease_end: take the job's lease back. A running inbox job lingers; nothing else has anybody to confirm.
local function lease_end(S, job)
  redis.call('ZREM', S.P .. ':leases', job.id)
  if not job_orphaned(S, job) then
    if job.state == 'running' and job.deliver ~= 'direct' then return attempt_linger(S, job) end
    inbox_forget(S, job)
  end
  lease_free(S, job.node, job.id, job.tenant)
end

-- job_end: the job's last state, kept for an hour for those who ask (counted from the confirmation, if one is owed).
local function job_end(S, job, state, reason, result)
  local key = job_key(S.P, job.id)
  redis.call('HSET', key, 'state', state, 'ended_at_ms', S.time_text, 'reason', reason, 'result', result)
  redis.call('HDEL', key, 'entry')
  if (tonumber(job.lingering) or 0) == 0 then redis.call('PEXPIRE', key, JOB_KEPT_MS) end
  event(S, 'job_' .. state, 'job', job.id, 'tenant', job.tenant, 'node', job.node or '', 'reason', reason)
end
