-- refusing: which of the three refusals it is, after a complete look found no free node.

-- alive_and_ready: the node could serve but for its load
local function alive_and_ready(S, id)
  local node = node_read(S, id)
  local deadline_ms = tonumber(redis.call('ZSCORE', S.P .. ':nodes', id) or 0)
  return node and node.state == 'ready' and deadline_ms > S.now and not node_quarantined(node)
end

-- refusal_class: overloaded (one is alive and ready but full or over its limits), unavailable (offered, but by none
-- that is alive, ready and not excluded), impossible (offered by no node of these pools), unknown (out of budget: the
-- replica answers from its snapshot).
local function refusal_class(S, claim, order)
  for i, id in ipairs(claim.nodes) do
    if i > 3 or S.budget <= 0 then break end
    local node = not claim.excluded[id] and node_read(S, id)
    spend(S, CONSIDER_COST)
    if node then
      node_bring(S, node)
      if pool_rank(node, order) and offers(S, id, claim.any_of) and alive_and_ready(S, id) then return 'overloaded' end
    end
  end
  local class = 'impossible'
  for _, pool in ipairs(order) do
    for _, tokens in ipairs(claim.any_of) do
      local keys = offering(S, pool, tokens)
      if not keys then return 'unknown' end
      for _, id in ipairs(redis.call('SINTER', unpack(keys))) do
        class = 'unavailable'
        if not claim.excluded[id] then
          spend(S, CONSIDER_COST)
          if S.budget <= 0 then return 'unknown' end
          if alive_and_ready(S, id) then return 'overloaded' end
        end
      end
    end
  end
  return class
end
