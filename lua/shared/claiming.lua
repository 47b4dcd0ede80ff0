-- claiming: what a claim must be, the writes that give its job a slot on a chosen node, and what its caller is told.

-- What a claim may carry: for each field a rule, and what is said of a value that breaks it. Names of nodes and versions
-- are only compared with those that are known, so it is enough that they are short.
local function text_rule(most, pattern)
  return { what = 'must be text of at most ' .. most .. ' bytes in the letters that it allows', holds = function(value)
    return type(value) == 'string' and #value <= most and (not pattern or string.find(value, pattern) ~= nil)
  end }
end

local function whole_rule(low, high)
  return { what = 'must be a whole number from ' .. low .. ' to ' .. high, holds = function(value)
    return type(value) == 'number' and value >= low and value <= high and value % 1 == 0
  end }
end

local function texts_rule(most)
  return { what = 'must be a list of at most 512 texts of at most ' .. most .. ' bytes', holds = function(value)
    if type(value) ~= 'table' or #value > 512 then return false end
    for i = 1, #value do
      if type(value[i]) ~= 'string' or #value[i] > most then return false end
    end
    return true
  end }
end

local function ranks_rule(most)
  return { what = 'must be a list of at most 512 whole numbers from 1 to ' .. most, holds = function(value)
    if type(value) ~= 'table' or #value > 512 then return false end
    for i = 1, #value do
      local rank = value[i]
      if type(rank) ~= 'number' or not (rank >= 1 and rank <= most) or rank % 1 ~= 0 then return false end
    end
    return true
  end }
end

local function choice_rule(a, b)
  return { what = 'must be one of the two that it knows', holds = function(value) return value == a or value == b end }
end

-- remembered: the same rule for texts that come again and again: up to a bound, those that held are not judged anew
local function remembered(rule)
  local holding, count = {}, 0
  return { what = rule.what, holds = function(value)
    if holding[value] then return true end
    if not rule.holds(value) then return false end
    if count >= 256 then holding, count = {}, 0 end
    holding[value], count = true, count + 1
    return true
  end }
end

local ID, TOKEN, FLAG = remembered(text_rule(64, '^%w[%w._-]*$')), text_rule(128, '^%w[%w._:>-]*$'), choice_rule(true, false)
local VERSION, DURATION_MS = text_rule(16, '^%d+$'), whole_rule(1, 86400000)
-- W3C Trace Context, version 00: trace, span and flags
local TRACEPARENT = { what = 'must be 00-, 32, 16 and 2 digits of 0-9 a-f with - between them', holds = function(value)
  return type(value) == 'string' and #value == 55 and string.find(value, '^00%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+$') ~= nil
    and string.sub(value, 36, 36) == '-' and string.sub(value, 53, 53) == '-'
end }
local CLAIM_NEEDS = { 'id', 'tenant', 'demand', 'config_version', 'structure_version', 'nodes', 'structures', 'ranks' }
local CLAIM_RULES = { id = text_rule(129, '^%w[%w._-]*:?[%w._-]*$'), digest = text_rule(128, '^%S+$'), tenant = ID,
  demand = text_rule(300000), pool = remembered(text_rule(64, '^[%w._-]*$')), fallback = FLAG,
  languages = remembered(text_rule(1024, '^[%w -]*$')), exclude = text_rule(4160),
  config_version = VERSION, structure_version = VERSION, nodes = texts_rule(64),
  structures = texts_rule(16), ranks = ranks_rule(1000000), offered = FLAG, look = FLAG, last = FLAG,
  session = text_rule(128, '^%w[%w._:-]*$'), affinity = choice_rule('sticky', 'spread'), payload = text_rule(262144),
  deliver = choice_rule('inbox', 'direct'), priority = whole_rule(0, 9), ack_ms = DURATION_MS,
  timeout_ms = DURATION_MS, max_attempts = whole_rule(1, 100), wait_ms = DURATION_MS, retry_failed = whole_rule(0, 1),
  elsewhere = FLAG, hold = text_rule(64, '^%w[%w._-]*$'), hold_ms = whole_rule(1, 60000),
  attempt = whole_rule(0, 10000), last_fence = VERSION, created_at_ms = VERSION, releases = whole_rule(0, 1000),
  released_by = text_rule(96, '^%w[%w._-]*:%d+$'), traceparent = TRACEPARENT }

-- Nodes that the claims of one call may show together: a page, and the shortlists of the others.
local NODES_MAX = 512

-- Demands come again and again: those that were found sound are kept decoded, up to a bound.
local DEMANDS_KEPT, DEMAND_KEPT_BYTES = 256, 4096
local demand_cache = { count = 0, any_of = {} }

-- any_of_checked: the alternatives of a demand: 1 to 32 lists of 1 to 64 tokens
local function any_of_checked(any_of)
  check(type(any_of) == 'table' and #any_of >= 1 and #any_of <= 32, 'demand', 'must have 1 to 32 lists in any_of')
  for _, tokens in ipairs(any_of) do
    check(type(tokens) == 'table' and #tokens >= 1 and #tokens <= 64, 'demand', 'must have lists of 1 to 64 tokens')
    for _, token in ipairs(tokens) do check(TOKEN.holds(token), 'demand', TOKEN.what) end
  end
  return any_of
end

-- demand_arg: the alternatives of a demand in JSON; callers only read them
local function demand_arg(text)
  local any_of = demand_cache.any_of[text]
  if any_of then return any_of end
  any_of = any_of_checked(decode_arg(cjson.decode, text, 'demand').any_of)
  if #text > DEMAND_KEPT_BYTES then return any_of end
  if demand_cache.count >= DEMANDS_KEPT then demand_cache = { count = 0, any_of = {} } end
  demand_cache.any_of[text], demand_cache.count = any_of, demand_cache.count + 1
  return any_of
end

local NOBODY = {}

-- claim_arg: one claim, checked whole, so that nothing in a batch is written before all of it is known to be sound.
local function claim_arg(value)
  local claim = decode_arg(cmsgpack.unpack, value, 'claim')
  for name, given in pairs(claim) do
    local rule = CLAIM_RULES[name]
    if not rule then check(false, 'claim', 'must be a map of the fields that it knows') end
    if not rule.holds(given) then check(false, name, rule.what) end
  end
  for i = 1, #CLAIM_NEEDS do
    if claim[CLAIM_NEEDS[i]] == nil then check(false, CLAIM_NEEDS[i], 'is missing') end
  end
  check(claim.hold or not claim.hold_ms, 'hold', 'is missing')
  claim.any_of, claim.excluded = demand_arg(claim.demand), claim.exclude and word_set(claim.exclude) or NOBODY
  claim.digest, claim.pool, claim.fallback = claim.digest or '-', claim.pool or '', claim.fallback ~= false
  return claim
end

local function claims_arg(...)
  local claims, shown = { ... }, 0
  check(#claims >= 1 and #claims <= 16, 'claim', 'must be 1 to 16 a call')
  for i, packed in ipairs(claims) do
    claims[i] = claim_arg(packed)
    shown = shown + #claims[i].nodes
    check(shown <= NODES_MAX, 'nodes', 'must be at most ' .. NODES_MAX .. ' in all claims of a call')
  end
  return claims
end

local SESSION_STICKY_MS, SESSION_SPREAD_MS = 1800000, 30000

-- What a job needs besides its claim; what is left out has the default that this library names.
local JOB_OPTIONS = { 'payload', 'ack_ms', 'timeout_ms', 'max_attempts', 'retry_failed', 'priority', 'deliver', 'session',
  'affinity', 'exclude', 'languages', 'wait_ms', 'releases', 'released_by', 'traceparent' }

-- job_create: put the fields that a new job has from its claim behind the first count of those that are written
local function job_create(S, claim, written, count)
  written[count + 1], written[count + 2], written[count + 3], written[count + 4] = 'tenant', claim.tenant, 'demand',
    claim.demand
  written[count + 5], written[count + 6], count = 'created_at_ms', claim.created_at_ms or S.time_text, count + 6
  if claim.digest ~= '-' then
    written[count + 1], written[count + 2], count = 'digest', claim.digest, count + 2
  end
  if claim.pool ~= '' then
    written[count + 1], written[count + 2], count = 'asked_pool', claim.pool, count + 2
  end
  if claim.fallback == false then
    written[count + 1], written[count + 2], count = 'fallback', '0', count + 2
  end
  for i = 1, #JOB_OPTIONS do
    local value = claim[JOB_OPTIONS[i]]
    if value then
      written[count + 1], written[count + 2], count = JOB_OPTIONS[i], value, count + 2
    end
  end
  return count
end

-- claim_write: give the job, which is new or exists, a slot on the node: lease, fence, delivery, in that one step.
local function claim_write(S, claim, node, new)
  local P, id, fence = S.P, claim.id, unique_number(S, claim.last_fence)
  local ack_ms, attempt = tonumber(claim.ack_ms) or ACK_MS, (claim.attempt or 0) + 1
  local lease_expires_at_ms = number_text(S.time_ms + ack_ms)
  lease_put(S, node.id, id, number_text(S.now + ack_ms))
  tenant_took(S, claim.tenant, id, fence)
  -- the nils make room for the fields to come: a table that grows is copied each time
  local written, count = { 'state', 'claimed', 'node', node.id, 'incarnation', node.incarnation, 'pool', node.pool,
    'fence', fence, 'attempt', attempt, 'lease_expires_at_ms', lease_expires_at_ms,
    nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }, 14
  if claim.deliver ~= 'direct' then
    written[15], written[16], count = 'entry',
      redis.call('XADD', inbox_key(P, node.id), '*', 'kind', 'job', 'job', id, 'fence', fence), 16
  end
  if new then count = job_create(S, claim, written, count) end
  redis.call('HSET', job_key(P, id), unpack(written, 1, count))
  if claim.session and claim.affinity then
    redis.call('SET', session_key(S, claim), node.id, 'PX',
      claim.affinity == 'sticky' and SESSION_STICKY_MS or SESSION_SPREAD_MS)
  end
  slot_taken(S, node)
  return { 'placed', id, node.id, node.endpoint, node.pool, fence, attempt, lease_expires_at_ms,
    claim.looked or 0, claim.loads or false, node.used, node.slots }
end
