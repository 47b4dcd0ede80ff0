-- serving: a job that was claimed before, or waits, gets its node: at once if one is free, else when one becomes free.

-- What a job that is placed again needs beyond JOB_FIELDS.
local AGAIN_FIELDS = { 'demand', 'asked_pool', 'fallback', 'languages', 'exclude', 'session', 'affinity', 'ack_ms',
  'priority', 'wait_ms', 'releases', 'released_by' }
-- How long a job that lost its node may wait for another, if its own wait_ms is no longer; attempts that it may be handed
-- back at most.
local AGAIN_WAIT_MS, RELEASES_MAX = 60000, 100
-- What each part of a turn of reaping may spend.
local TURN_BUDGET = 4000

-- claim_again: the claim of a job that exists, as job_claim has it for a new one; avoid is a node that it had.
local function claim_again(S, job, avoid)
  local values = redis.call('HMGET', job_key(S.P, job.id), unpack(AGAIN_FIELDS))
  for i, name in ipairs(AGAIN_FIELDS) do job[name] = values[i] end
  return { id = job.id, tenant = job.tenant, any_of = demand_arg(job.demand), pool = job.asked_pool or '',
    fallback = job.fallback ~= '0', languages = job.languages or '', exclude = job.exclude or nil,
    excluded = word_set(job.exclude), session = job.session, affinity = job.affinity, deliver = job.deliver,
    ack_ms = job.ack_ms, priority = job.priority, attempt = tonumber(job.attempt) or 0, last_fence = job.fence,
    released_by = job.released_by, avoid = avoid, retried = true, nodes = {}, structures = {}, ranks = {} }
end

local function place_again(S, job, claim, node)
  local answer = claim_write(S, claim, node)
  event(S, 'job_placed', 'job', job.id, 'tenant', job.tenant, 'node', node.id, 'pool', node.pool,
    'attempt', answer[7], 'fence', answer[6])
end

-- node_serve: give the node's free slots to the jobs that wait for them: by priority, then in fair turns of the tenants,
-- then by age.
function node_serve(S, node)
  if redis.call('EXISTS', S.P .. ':waiting') == 0 then return end
  if tonumber(redis.call('ZSCORE', S.P .. ':nodes', node.id) or 0) <= S.now then return end
  -- isolation holds by the present configuration, also before a heartbeat has brought the node under it
  if node.config_version ~= S.config_version and node_place(S, node) then structure_changed(S, node.id) end
  local found, used = heads(S, node), node_used(S, node.id)
  for _ = 1, math.min(node.slots - used, SERVED_MAX) do
    local at, best
    for i, head in ipairs(found) do
      if sooner(head, best) then at, best = i, head end
    end
    if not best then return end
    local job = job_read(S, best.job)
    if job then fair_serve(S, best.tenant, best.start) end
    -- the last to leave takes the turns along
    queue_leave(S, best.job, best.name)
    if job then
      place_again(S, job, claim_again(S, job), { id = node.id, pool = best.pool, used = used, slots = node.slots,
        incarnation = node.incarnation, endpoint = node.endpoint })
      used = used + 1
    end
    local full = tenant_full(S, best.tenant)
    best.job, best.score = queue_head(S, best.name, node)
    if not best.job then table.remove(found, at) end
    for i = #found, 1, -1 do
      local head = found[i]
      if full and head.tenant == best.tenant then
        table.remove(found, i)
      else
        head.start = head.tenant == best.tenant and fair_start(S, head.tenant) or math.max(head.start, best.start)
      end
    end
  end
end

-- job_again: the attempt is over, the job is not: another node at once, or the first that becomes free. Returns whether
-- the job ended all the same, for want of room to wait.
local function job_again(S, job, claim, reason)
  redis.call('HDEL', job_key(S.P, job.id), 'node', 'incarnation', 'pool', 'entry', 'lease_expires_at_ms', 'started_at_ms',
    'started_ms', 'result_dropped')
  redis.call('HSET', job_key(S.P, job.id), 'state', 'pending', 'reason', reason)
  event(S, 'job_retried', 'job', job.id, 'tenant', job.tenant, 'node', job.node, 'attempt', job.attempt, 'reason', reason)
  local order = pool_order(S, claim.tenant, claim.pool, claim.fallback, claim.languages)
  S.budget = S.budget or LOOK_BUDGET
  local node = order and not tenant_full(S, job.tenant) and look(S, claim, order, nil)
  if node then
    place_again(S, job, claim, node)
    return false
  end
  local limit = queue_join(S, claim, math.max(tonumber(job.wait_ms) or 0, AGAIN_WAIT_MS))
  if limit then job_end(S, job, 'failed', reason, '') end
  return limit ~= nil
end

-- attempt_end: an attempt that did not come to its end: lost, unacknowledged, timed out, failed or handed back. Returns
-- whether the job ended with it. A direct job is its caller's to start, to end and to try again.
function attempt_end(S, job, reason, result)
  local claim, key = claim_again(S, job, job.node), job_key(S.P, job.id)
  local releases = tonumber(job.releases) or 0
  if reason == 'released' then
    releases = releases + 1
    claim.released_by = job.node .. ':' .. job.incarnation
    redis.call('HSET', key, 'releases', releases, 'released_by', claim.released_by)
  end
  local spent = tonumber(job.attempt) - releases >= (tonumber(job.max_attempts) or MAX_ATTEMPTS)
  if spent or releases > RELEASES_MAX or job.deliver == 'direct' then
    job_end(S, job, 'failed', reason, result or '')
    return true
  end
  return job_again(S, job, claim, reason)
end

-- queue_serve: a node that could take the first job of this queue is given to all that wait, or priorities and turns
-- would be passed over.
local function queue_serve(S, name, queues)
  local first = redis.call('ZRANGE', queue_key(S, name), 0, 0)[1]
  local job = first and job_read(S, first)
  local claim = job and claim_again(S, job)
  local order = claim and pool_order(S, claim.tenant, claim.pool, claim.fallback, claim.languages)
  local node = order and look(S, claim, order, nil)
  if first and not job then queue_leave(S, first, name) end
  if node then
    spend(S, 2 * COMMAND_COST * queues)
    node_serve(S, node_read(S, node.id))
  end
end

-- serve_jobs: the same from the side of the jobs, for what a call had to leave or no node told of; within the budget.
local function serve_jobs(S)
  local names = redis.call('HKEYS', S.P .. ':waiting')
  for i = 1, #names do
    if S.budget <= 0 then return end
    local name = names[(S.time_us + i) % #names + 1]
    if not tenant_full(S, string.match(name, ':(.*)$')) then queue_serve(S, name, #names) end
  end
end

-- serve_roomy: the same, also where quotas have changed
local function serve_roomy(S)
  S.budget = S.budget or TURN_BUDGET
  if redis.call('EXISTS', S.P .. ':waiting') == 1 then serve_jobs(S) end
end

-- tenant_serve: a lease of the tenant is over. If it had all that it may have, there may be free nodes for its jobs that
-- wait, which no node will tell of: the first in their order is served.
function tenant_serve(S, tenant)
  local most = tenant_most(S, tenant, 'concurrent_jobs')
  if not most or redis.call('EXISTS', S.P .. ':waiting') == 0 then return end
  if redis.call('ZCARD', tenant_leases_key(S, tenant)) ~= most - 1 then return end
  local names, scores = tenant_queues(S, tenant), {}
  for _, name in ipairs(names) do
    scores[name] = tonumber(redis.call('ZRANGE', queue_key(S, name), 0, 0, 'WITHSCORES')[2] or 0)
  end
  table.sort(names, function(a, b)
    if scores[a] ~= scores[b] then return scores[a] < scores[b] end
    return a < b
  end)
  S.budget = S.budget or LOOK_BUDGET
  for _, name in ipairs(names) do
    if S.budget <= 0 or tenant_full(S, tenant) then return end
    queue_serve(S, name, #names)
  end
end

-- reap_pending: jobs that waited for as long as they wanted to; the reason is what they would be refused for now.
local function reap_pending(S, max)
  local due = redis.call('ZRANGEBYSCORE', S.P .. ':pending', '-inf', number_text(S.now), 'LIMIT', 0, max)
  S.budget = TURN_BUDGET
  local classes = {}
  for _, id in ipairs(due) do
    local job = job_read(S, id)
    if not job then
      redis.call('ZREM', S.P .. ':pending', id)
    else
      -- jobs of one queue agree in it, and the budget is not for asking once for each
      local class = classes[job.queue]
      if not class then
        local claim = claim_again(S, job)
        local order = pool_order(S, claim.tenant, claim.pool, claim.fallback, claim.languages)
        class = order and (tenant_full(S, job.tenant) and 'quota' or refusal_class(S, claim, order)) or 'tenant_denied'
        classes[job.queue] = class
      end
      queue_leave(S, id, job.queue)
      job_end(S, job, 'expired', class, '')
    end
  end
  return #due
end

-- reap_due: one bounded turn of everything; max is per kind. Returns nodes lost, attempts ended, jobs ended with them.
local function reap_due(S, max)
  redis.call('HSET', S.P, 'reaped_ms', number_text(S.now))
  S.budget = TURN_BUDGET
  local nodes = reap_nodes(S, max)
  local orphaned, failed = reap_orphans(S, max)
  local ended, over = reap_leases(S, max)
  local expired = reap_pending(S, max)
  reap_quarantines(S, max)
  reap_tombstones(S, max)
  -- lost nodes send no heartbeat that would do it
  S.budget = TURN_BUDGET
  settle_some(S)
  serve_roomy(S)
  local leases, jobs = orphaned + ended, failed + over + expired
  reaped_count(S, 'leases', leases)
  reaped_count(S, 'jobs', jobs)
  return nodes, leases, jobs
end
