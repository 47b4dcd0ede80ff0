-- choosing: from a demand to a node by the true state: the shortlist first, then a bounded look by Redis itself.

-- What one call may spend, in units of about 0.1 µs: on the nodes that it was shown, and on its own looks. What is not
-- reached within these is not decided: the answer is "again".
local SHORTLIST_BUDGET, LOOK_BUDGET = 6500, 8000
-- A node of which the snapshot's structure still holds; one command on a set.
local KNOWN_COST, COMMAND_COST = 25, 20

local function as_seen(S, claim)
  return claim.structure_version == S.structure_version and claim.config_version == S.config_version
end

-- settled_as_seen: structure and configuration are those that the replica saw, also once every node is settled
local function settled_as_seen(S, claim) return as_seen(S, claim) and settle_some(S) and as_seen(S, claim) end

-- offers: whether the node is indexed under each token of one of the alternatives; out of budget it says no
local function offers(S, id, any_of)
  for _, tokens in ipairs(any_of) do
    local all = true
    for _, token in ipairs(tokens) do
      spend(S, COMMAND_COST)
      if S.budget <= 0 then return false end
      all = all and redis.call('SISMEMBER', S.P .. ':cap:' .. token, id) == 1
      if not all then break end
    end
    if all then return true end
  end
  return false
end

-- pool_rank: the place of the node's best pool in the order of this request, or nil: isolation is decided here.
local function pool_rank(node, order)
  local best
  for _, name in ipairs(words(node.pools)) do
    local rank = order.rank[name]
    if rank and (not best or rank < best) then best = rank end
  end
  return best
end

-- better: earlier pool; then, within a pool, by its strategy. A node to avoid loses to any other.
local function better(a, b)
  if not b then return true end
  if a.avoided ~= b.avoided then return b.avoided end
  if a.rank ~= b.rank then return a.rank < b.rank end
  if a.pack then return a.load > b.load end
  return a.load < b.load
end

-- still_held: a job that is placed again goes neither where an attempt of it still holds a slot, nor to the incarnation
-- that handed it back.
local function still_held(S, claim, id, incarnation)
  return redis.call('ZSCORE', leases_key(S.P, id), claim.id) or claim.released_by == id .. ':' .. incarnation
end

-- consider: a member of P:free as a candidate by its true state, or nil. A lapsed node that is met is taken out.
local function consider(S, claim, order, id, structure, rank, deadline_ms)
  local key = node_key(S.P, id)
  if tonumber(deadline_ms or 0) <= S.now then
    spend(S, CONSIDER_COST + BRING_COST)
    local node = node_read(S, id)
    if node then node_lapse(S, node) end
    return nil
  end
  local seen = redis.call('HMGET', key, 'structure', 'config_version', 'slots', 'incarnation', 'endpoint', 'pools')
  -- what the snapshot knew of this node's structure still holds, so tokens and ranks need no other look
  local known = structure and order[rank] and seen[1] == structure and seen[2] == S.config_version
    and claim.config_version == S.config_version
    and string.find(' ' .. seen[6] .. ' ', ' ' .. order[rank] .. ' ', 1, true)
  spend(S, known and KNOWN_COST or CONSIDER_COST)
  if not known then
    local node = node_read(S, id)
    if not node then
      redis.call('SREM', S.P .. ':free', id)
      return nil
    end
    local cost = node.config_version ~= S.config_version and bring_cost(S, node) or 0
    local out = node_bring(S, node)
    rank = pool_rank(node, order)
    local fits = not out and rank and offers(S, id, claim.any_of)
    -- charged last, so that a node with a long list, once it is brought, can still be taken
    spend(S, cost)
    if not fits then return nil end
  end
  local used, slots = node_used(S, id), tonumber(seen[3])
  if used >= slots or (claim.retried and still_held(S, claim, id, seen[4])) then return nil, used end
  local pool = order[rank]
  return { id = id, rank = rank, pool = pool, used = used, slots = slots, load = used / slots,
    pack = pool_config(S).pools[pool].strategy == 'pack', avoided = id == claim.avoid,
    incarnation = seen[4], endpoint = seen[5] }, used
end

-- shortlist: the best of the replica's candidates; fills claim.loads with their true used slots, -1 for an unfit one.
-- Out of budget the rest is left out of the loads, and the claim is cut: not all that it showed was considered.
local function shortlist(S, claim, order)
  local ids, loads, best = claim.nodes, {}, nil
  claim.loads = loads
  if #ids == 0 then return nil end
  local free = redis.call('SMISMEMBER', S.P .. ':free', unpack(ids))
  local deadlines = redis.call('ZMSCORE', S.P .. ':nodes', unpack(ids))
  for i, id in ipairs(ids) do
    if S.budget <= 0 then break end
    loads[i] = -1
    if free[i] == 1 and not claim.excluded[id] then
      local candidate, used = consider(S, claim, order, id, claim.structures[i], claim.ranks[i], deadlines[i])
      loads[i] = used or -1
      if candidate and better(candidate, best) then best = candidate end
    end
  end
  claim.cut = S.budget <= 0
  return best
end

local function session_key(S, claim) return S.P .. ':session:' .. claim.tenant .. ':' .. claim.session end

-- session_node: where affinity sends the job before any shortlist; sets what spread avoids.
local function session_node(S, claim, order)
  local node = claim.session and claim.affinity and redis.call('GET', session_key(S, claim))
  if not node or claim.excluded[node] then return nil end
  if claim.affinity == 'spread' then
    claim.avoid = node
  elseif redis.call('SISMEMBER', S.P .. ':free', node) == 1 then
    return (consider(S, claim, order, node, nil, nil, redis.call('ZSCORE', S.P .. ':nodes', node)))
  end
end

-- proposed: the session's node, or the best of the shortlist. Returns it, and whether it is the session's. This and the
-- looks have budgets of their own, so that neither uses up the other's.
local function proposed(S, claim, order)
  local look_budget = S.budget
  S.budget = S.shortlist_budget
  local sticky = session_node(S, claim, order)
  local node = sticky or shortlist(S, claim, order)
  S.shortlist_budget, S.budget = S.budget, look_budget
  return node, sticky
end
