-- waiting: jobs without a slot: one queue for each demand and tenant, and who is served when a node can take a job.

local WAITING_DEMANDS_MAX, WAITING_JOBS_MAX, WAITING_TENANT_MAX = 128, 10000, 1000
-- Demands that one tenant may have for each that is free.
local DEMANDS_FOR_EACH_FREE = 3
-- Jobs that one call serves on one node; what is left is served by the next heartbeat or turn of reaping.
local SERVED_MAX = 16
-- Jobs at the heads of queues that it passes over, for they may not run on that node.
local BARRED_MAX = 256
-- Tenants of which a turn is kept.
local FAIR_MAX = 1000
local PRIORITY, PRIORITY_SPAN = 5, 1e13

local function queue_key(S, name) return S.P .. ':queue:' .. name end

-- wanted_text: all that decides where a job may go; jobs that agree in it wait in one queue for each tenant.
local function wanted_text(claim)
  local alternatives = {}
  for i, tokens in ipairs(claim.any_of) do alternatives[i] = list_text(tokens) end
  return '{"any_of":[' .. table.concat(alternatives, ',') .. '],"pool":"' .. claim.pool .. '","fallback":'
    .. tostring(claim.fallback ~= false) .. ',"languages":"' .. (claim.languages or '')
    .. '","exclude":"' .. (claim.exclude or '') .. '"}'
end

local wanted_cache = { count = 0, wanted = {} }

local function wanted_read(text)
  local wanted = wanted_cache.wanted[text]
  if wanted then return wanted end
  wanted = cjson.decode(text)
  wanted.excluded = word_set(wanted.exclude)
  if wanted_cache.count >= 2 * WAITING_DEMANDS_MAX then wanted_cache = { count = 0, wanted = {} } end
  wanted_cache.wanted[text], wanted_cache.count = wanted, wanted_cache.count + 1
  return wanted
end

-- tenant_queues: the names of the queues of one tenant
local function tenant_queues(S, tenant)
  local own, ending = {}, ':' .. tenant
  for _, name in ipairs(redis.call('HKEYS', S.P .. ':waiting')) do
    if string.sub(name, -#ending) == ending then own[#own + 1] = name end
  end
  return own
end

-- tenant_waiting: how many of the tenant's jobs wait
local function tenant_waiting(S, tenant, queues)
  local own = 0
  for _, queue in ipairs(queues or tenant_queues(S, tenant)) do own = own + redis.call('ZCARD', queue_key(S, queue)) end
  return own
end

-- waiting_limit: what keeps one more job from waiting, or nil. An accepted job that waits again is never turned away
-- for the number of jobs, and has as many demands again to itself, which new jobs cannot take up. A tenant may have
-- three times as many demands as it leaves free, so that it can take most of them, but not those that others need.
local function waiting_limit(S, claim, name)
  local new = redis.call('HEXISTS', S.P .. ':waiting', name) == 0
  local count = new and redis.call('HLEN', S.P .. ':waiting') or 0
  local most = claim.retried and 2 * WAITING_DEMANDS_MAX or WAITING_DEMANDS_MAX
  if new and count >= most then return 'demands' end
  if claim.retried then return nil end
  if redis.call('ZCARD', S.P .. ':pending') >= WAITING_JOBS_MAX then return 'jobs' end
  local queues = tenant_queues(S, claim.tenant)
  if new and #queues >= DEMANDS_FOR_EACH_FREE * (most - count) then return 'demands' end
  local quota, own = tenant_most(S, claim.tenant, 'waiting_jobs'), tenant_waiting(S, claim.tenant, queues)
  if quota and own >= quota then return 'waiting_jobs' end
  if not quota and own >= WAITING_TENANT_MAX then return 'tenant' end
end

-- queue_join: the job waits for at most wait_ms. Returns nothing, or the limit that keeps it from waiting.
local function queue_join(S, claim, wait_ms)
  local text = wanted_text(claim)
  local name = string.sub(redis.sha1hex(text), 1, 16) .. ':' .. claim.tenant
  local limit = waiting_limit(S, claim, name)
  if limit then return limit end
  redis.call('HSET', S.P .. ':waiting', name, text)
  redis.call('ZADD', queue_key(S, name),
    number_text((9 - (tonumber(claim.priority) or PRIORITY)) * PRIORITY_SPAN + (claim.queued_ms or S.now)), claim.id)
  redis.call('ZADD', S.P .. ':pending', number_text(S.now + wait_ms), claim.id)
  redis.call('HSET', job_key(S.P, claim.id), 'state', 'pending', 'queue', name,
    'waits_until_at_ms', number_text(S.time_ms + wait_ms))
end

-- refused: a new job is refused for this reason, or waits if it asked to.
local function refused(S, claim, class)
  if not claim.wait_ms or (class == 'impossible' and not claim.elsewhere) then
    return reply('refused', class, claim.loads, S.epoch)
  end
  local limit = queue_join(S, claim, claim.wait_ms)
  if limit then return reply('crowded', limit, claim.loads) end
  local written = {}
  redis.call('HSET', job_key(S.P, claim.id), unpack(written, 1, job_create(S, claim, written, 0)))
  event(S, 'job_waiting', 'job', claim.id, 'tenant', claim.tenant, 'reason', class)
  return reply('waiting', claim.id, claim.loads)
end

-- queue_leave: the job waits no more, whatever becomes of it.
local function queue_leave(S, id, name)
  redis.call('ZREM', queue_key(S, name), id)
  redis.call('ZREM', S.P .. ':pending', id)
  redis.call('HDEL', job_key(S.P, id), 'queue', 'waits_until_at_ms')
  if redis.call('EXISTS', queue_key(S, name)) == 1 then return end
  redis.call('HDEL', S.P .. ':waiting', name)
  if redis.call('EXISTS', S.P .. ':waiting') == 0 then redis.call('DEL', S.P .. ':fair') end
end

-- fair_forget: tenants come from outside: of very many that were served, only those that wait keep their turns.
local function fair_forget(S)
  local waits = { [':'] = true }
  for _, name in ipairs(redis.call('HKEYS', S.P .. ':waiting')) do waits[string.match(name, ':(.*)$')] = true end
  for _, tenant in ipairs(redis.call('HKEYS', S.P .. ':fair')) do
    if not waits[tenant] then redis.call('HDEL', S.P .. ':fair', tenant) end
  end
end

-- fair_start, fair_serve: start-time fair queueing (Goyal, Vin, Cheng 1996): the tenant whose turn comes first is served;
-- a tenant of weight w moves on by 1/w with each job, and one that waited for nothing has saved up nothing.
local function fair_start(S, tenant)
  local held = redis.call('HMGET', S.P .. ':fair', ':', tenant)
  return math.max(tonumber(held[1]) or 0, tonumber(held[2]) or 0)
end

local function fair_serve(S, tenant, start)
  local weight = pool_config(S).weights[tenant] or 1
  redis.call('HSET', S.P .. ':fair', ':', string.format('%.9f', start), tenant, string.format('%.9f', start + 1 / weight))
  if redis.call('HLEN', S.P .. ':fair') > FAIR_MAX then fair_forget(S) end
end

local function sooner(a, b)
  if not b then return true end
  local first, second = math.floor(a.score / PRIORITY_SPAN), math.floor(b.score / PRIORITY_SPAN)
  if first ~= second then return first < second end
  if a.start ~= b.start then return a.start < b.start end
  return a.score < b.score
end

-- queue_head: the first job of a queue that may run on this node: not where an attempt of it still holds a slot, nor on
-- the incarnation that handed it back. One call passes over BARRED_MAX such jobs in all queues together.
local function queue_head(S, name, node)
  local at = 0
  repeat
    local page = redis.call('ZRANGE', queue_key(S, name), at, at + 15, 'WITHSCORES')
    for i = 1, #page, 2 do
      local lingers = redis.call('ZSCORE', leases_key(S.P, node.id), page[i])
      local handed = redis.call('HGET', job_key(S.P, page[i]), 'released_by')
      if not lingers and handed ~= node.id .. ':' .. node.incarnation then return page[i], tonumber(page[i + 1]) end
      node.barred = (node.barred or 0) + 1
      if node.barred >= BARRED_MAX then return end
    end
    at = at + 16
  until #page < 32
end

local function fits(offered, any_of)
  for _, tokens in ipairs(any_of) do
    local all = true
    for _, token in ipairs(tokens) do all = all and offered[token] end
    if all then return true end
  end
  return false
end

local function first_of(order, member)
  for rank, name in ipairs(order) do
    if member[name] then return rank end
  end
end

-- heads: of each queue that the node may serve, its head, the pool that it is served in, and its tenant's turn. A tenant
-- that has all its leases is passed over: it keeps nobody else waiting.
local function heads(S, node)
  local waiting, offered, found = redis.call('HGETALL', S.P .. ':waiting'), token_set(node.capabilities), {}
  local member, full = word_set(node.pools), {}
  -- from a turning start, so that no queue is behind those with many barred jobs every time
  local count = #waiting / 2
  for turn = 1, count do
    local i = 2 * ((S.time_us + turn) % count) + 1
    local name, wanted = waiting[i], wanted_read(waiting[i + 1])
    local tenant = string.match(name, ':(.*)$')
    if full[tenant] == nil then full[tenant] = tenant_full(S, tenant) end
    if not full[tenant] and not wanted.excluded[node.id] and fits(offered, wanted.any_of) then
      local order = pool_order(S, tenant, wanted.pool, wanted.fallback, wanted.languages)
      local rank = order and first_of(order, member)
      local job, score = nil, nil
      if rank then job, score = queue_head(S, name, node) end
      if job then
        found[#found + 1] = { name = name, tenant = tenant, job = job, score = score, pool = order[rank],
          start = fair_start(S, tenant) }
      end
    end
  end
  return found
end
