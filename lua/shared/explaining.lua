-- explaining: every condition that keeps a node from a demand, in the order of the rules, and their counts.
-- A condition is a reason, with what is missing or over its limit behind it: "missing_capability tts:en".

-- How near each reason is to being mended; the nearest of the nodes is the near miss.
local NEARNESS = { quota = 0, full = 1, overloaded = 2, quarantined = 3, cordoned = 4, draining = 5, lost = 6, excluded = 7,
  missing_capability = 8, not_in_pool = 9, tenant_denied = 10 }

local function reason_of(condition) return condition and string.match(condition, '^%S+') end

-- offering_nodes: for each token of a demand which of these nodes offer it; a node's own text may hold 1,024 tokens
local function offering_nodes(S, any_of, ids)
  local offering = {}
  for _, tokens in ipairs(any_of) do
    for _, token in ipairs(#ids > 0 and tokens or {}) do
      if not offering[token] then
        offering[token] = {}
        local held = redis.call('SMISMEMBER', S.P .. ':cap:' .. token, unpack(ids))
        for i, id in ipairs(ids) do offering[token][id] = held[i] == 1 end
      end
    end
  end
  return offering
end

-- missing_tokens: what the node lacks of the alternative of which it lacks least
local function missing_tokens(offering, id, any_of)
  local least
  for _, tokens in ipairs(any_of) do
    local missing = {}
    for _, token in ipairs(tokens) do
      if not offering[token][id] then missing[#missing + 1] = token end
    end
    if not least or #missing < #least then least = missing end
  end
  table.sort(least)
  return least
end

-- node_conditions: what keeps the node from the demand; how far it is from it; whether it is in a pool of the tenant.
local function node_conditions(S, node, wanted, order)
  local conditions, cost, seen = {}, 0, false
  for _, name in ipairs(words(node.pools)) do
    local pool = pool_config(S).pools[name]
    seen = seen or (pool and pool_serves(pool, wanted.tenant)) or false
  end
  local function keeps(condition, weight)
    conditions[#conditions + 1], cost = condition, cost + (weight or 1)
  end
  if not pool_rank(node, order) then keeps((seen or node.pools == '') and 'not_in_pool' or 'tenant_denied') end
  local missing = missing_tokens(wanted.offering, node.id, wanted.any_of)
  if #missing > 0 then keeps('missing_capability ' .. table.concat(missing, ' '), #missing) end
  if wanted.excluded[node.id] then keeps('excluded') end
  if node.state ~= 'ready' then keeps(node.state) end
  if node_quarantined(node) then keeps('quarantined') end
  local over = node_over(S, node)
  if over ~= '' then keeps('overloaded ' .. over) end
  if node_used(S, node.id) >= node.slots then keeps('full') end
  if wanted.full then keeps('quota') end
  return conditions, cost, seen
end

local function counts_new() return { eligible = 0, reasons = {}, list = {} } end

-- count_node: under its first reason; offered and alive decide the class where nothing is eligible.
local function count_node(counts, conditions)
  local reason = reason_of(conditions[1])
  if not reason then
    counts.eligible = counts.eligible + 1
    return
  end
  if not counts.reasons[reason] then counts.list[#counts.list + 1] = reason end
  counts.reasons[reason] = (counts.reasons[reason] or 0) + 1
  if NEARNESS[reason] >= NEARNESS.missing_capability then return end
  counts.offered = true
  if NEARNESS[reason] <= NEARNESS.overloaded then counts.alive = true end
end

-- counts_class: a tenant that has all its leases is told so whatever its nodes do, but where none offers what is required
local function counts_class(counts, full)
  if counts.eligible > 0 then return 'placeable' end
  if not counts.offered then return 'impossible' end
  return full and 'quota' or counts.alive and 'overloaded' or 'unavailable'
end

local function counts_told(counts, told)
  for _, reason in ipairs(counts.list) do
    told[#told + 1], told[#told + 2] = reason, counts.reasons[reason]
  end
  return told
end

-- nearer: whether a node that is kept away is nearer than the nearest so far
local function nearer(page, cost, conditions, id)
  local best = page.near
  if not best or cost ~= page.near_cost then return not best or cost < page.near_cost end
  local mine, theirs = NEARNESS[reason_of(conditions[1])], NEARNESS[reason_of(best[2])]
  if mine ~= theirs then return mine < theirs end
  return id < best[1]
end
