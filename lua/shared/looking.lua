-- looking: Redis's own bounded search, where the shortlist did not settle it.

-- pick: the best among up to 16 of these free nodes, from a turning start
local function pick(S, claim, order, ids, best)
  local count, found = #ids, 0
  for i = 1, count do
    local id = ids[(S.time_us + i) % count + 1]
    if S.budget <= 0 or found == 16 then break end
    if not claim.excluded[id] then
      local candidate = consider(S, claim, order, id)
      if candidate then
        found = found + 1
        if not best or candidate.score < best.score then best = candidate end
      end
    end
  end
  return best
end

-- offering: the keys to intersect for one pool and one alternative, if that fits the budget
local function offering(S, pool, tokens, ...)
  if S.budget <= 0 then return nil end
  local keys, smallest = { S.P .. ':pool:' .. pool, ... }, nil
  for _, token in ipairs(tokens) do keys[#keys + 1] = S.P .. ':cap:' .. token end
  for _, key in ipairs(keys) do
    local size = redis.call('SCARD', key)
    if not smallest or size < smallest then smallest = size end
  end
  spend(S, COMMAND_COST * #keys + smallest * #keys)
  return S.budget > 0 and keys or nil
end

-- look: Redis's own search for a free eligible node, pool by pool, better than best. Returns it and whether the
-- look was complete; an incomplete one may not refuse.
local function look(S, claim, order, best)
  if S.budget <= 0 then return best, false end
  local any_of, complete = claim.any_of, settle_some(S)
  best = pick(S, claim, order, redis.call('SRANDMEMBER', S.P .. ':free', 4), best)
  for rank, pool in ipairs(order) do
    if best and not best.avoided and best.rank <= rank then return best, true end
    for _, tokens in ipairs(any_of) do
      local keys = offering(S, pool, tokens, S.P .. ':free')
      if not keys then return best, false end
      best = pick(S, claim, order, redis.call('SINTER', unpack(keys)), best)
    end
  end
  return best, complete and S.budget > 0
end
