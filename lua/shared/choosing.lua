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

-- score_of: the least is the best: an earlier pool; then, within a pool, by its strategy. A node to avoid loses to any
-- other.
local function score_of(claim, order, id, rank, used, slots)
  local load = order.pack[rank] and 1 - used / slots or used / slots
  return (id == claim.avoid and 1e9 or 0) + 2 * rank + load
end

-- still_held: a job that is placed again goes neither where an attempt of it still holds a slot, nor to the incarnation
-- that handed it back.
local function still_held(S, claim, id, incarnation)
  return redis.call('ZSCORE', leases_key(S.P, id), claim.id) or claim.released_by == id .. ':' .. incarnation
end

-- lapsed: the node's heartbeat is overdue; one that is met so is taken out
local function lapsed(S, id)
  if tonumber(redis.call('ZSCORE', S.P .. ':nodes', id) or 0) > S.now then return false end
  spend(S, CONSIDER_COST + BRING_COST)
  local node = node_read(S, id)
  if node then node_lapse(S, node) end
  return true
end

-- consider: a member of P:free as a candidate by its whole true state, or nil
local function consider(S, claim, order, id)
  if lapsed(S, id) then return nil end
  spend(S, CONSIDER_COST)
  local node = node_read(S, id)
  if not node then
    redis.call('SREM', S.P .. ':free', id)
    return nil
  end
  local cost = node.config_version ~= S.config_version and bring_cost(S, node) or 0
  local out = node_bring(S, node)
  local rank = pool_rank(node, order)
  local fits = not out and rank and offers(S, id, claim.any_of)
  -- charged last, so that a node with a long list, once it is brought, can still be taken
  spend(S, cost)
  if not fits then return nil end
  local used = node_used(S, id)
  if used >= node.slots or (claim.retried and still_held(S, claim, id, node.incarnation)) then return nil, used end
  return { id = id, rank = rank, pool = order[rank], used = used, slots = node.slots, avoided = id == claim.avoid,
    score = score_of(claim, order, id, rank, used, node.slots), incarnation = node.incarnation,
    endpoint = node.endpoint }, used
end

-- seen_used: what a proposed node has used of its slots, if what the snapshot knew of its structure still holds, so that
-- tokens and ranks need no other look; else nil
local function seen_used(S, id, structure)
  local seen = redis.call('HMGET', node_key(S.P, id), 'structure', 'config_version', 'slots')
  if seen[1] ~= structure or seen[2] ~= S.config_version then return nil end
  spend(S, KNOWN_COST)
  return node_used(S, id), tonumber(seen[3])
end

-- confirmed: the chosen node of which the snapshot still held, with what a claim writes; nil if its heartbeat lapsed or
-- it is not in the pool that the replica gave it
local function confirmed(S, claim, order, id, rank, used, slots)
  if lapsed(S, id) then return nil end
  local seen, pool = redis.call('HMGET', node_key(S.P, id), 'incarnation', 'endpoint', 'pools'), order[rank]
  if seen[3] ~= pool and not string.find(' ' .. seen[3] .. ' ', ' ' .. pool .. ' ', 1, true) then return nil end
  return { id = id, rank = rank, pool = pool, used = used, slots = slots, avoided = id == claim.avoid,
    score = score_of(claim, order, id, rank, used, slots), incarnation = seen[1], endpoint = seen[2] }
end

-- shortlist: the best of the replica's candidates; fills claim.loads with their true used slots, -1 for an unfit one.
-- Out of budget the rest is left out of the loads, and the claim is cut: not all that it showed was considered. unfit has
-- those that turned out so once they were chosen.
local function shortlist(S, claim, order, unfit)
  local ids, ranks, loads = claim.nodes, claim.ranks, {}
  claim.loads = loads
  if #ids == 0 then return nil end
  local free = redis.call('SMISMEMBER', S.P .. ':free', unpack(ids))
  -- of a page many may have lapsed at once; of a few the one that is chosen is asked for
  local deadlines = #ids > 16 and redis.call('ZMSCORE', S.P .. ':nodes', unpack(ids))
  local as_configured = claim.config_version == S.config_version
  local best, at, best_used, best_slots, whole
  for i = 1, #ids do
    if S.budget <= 0 then break end
    local id, rank, load, score, slots, node = ids[i], ranks[i], -1, nil, nil, nil
    local late = deadlines and free[i] == 1 and tonumber(deadlines[i] or 0) <= S.now and lapsed(S, id)
    if free[i] == 1 and not late and not claim.excluded[id] and not (unfit and unfit[i]) then
      local used
      if as_configured and order[rank] then used, slots = seen_used(S, id, claim.structures[i]) end
      if used then
        load, score = used, used < slots and score_of(claim, order, id, rank, used, slots)
      else
        node, load = consider(S, claim, order, id)
        load, score = load or -1, node and node.score
      end
    end
    loads[i] = load
    if score and (not best or score < best) then best, at, best_used, best_slots, whole = score, i, load, slots, node end
  end
  claim.cut = S.budget <= 0
  if not at then return nil end
  local node = whole or confirmed(S, claim, order, ids[at], ranks[at], best_used, best_slots)
  if node then return node end
  unfit = unfit or {}
  unfit[at] = true
  return shortlist(S, claim, order, unfit)
end

local function session_key(S, claim) return S.P .. ':session:' .. claim.tenant .. ':' .. claim.session end

-- session_node: where affinity sends the job before any shortlist; sets what spread avoids.
local function session_node(S, claim, order)
  local node = claim.session and claim.affinity and redis.call('GET', session_key(S, claim))
  if not node or claim.excluded[node] then return nil end
  if claim.affinity == 'spread' then
    claim.avoid = node
  elseif redis.call('SISMEMBER', S.P .. ':free', node) == 1 then
    return (consider(S, claim, order, node))
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
