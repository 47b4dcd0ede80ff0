-- audit: judges placements and refusals in the very step that decides them, and counts in P:audit. It reads the raw
-- keys, over all nodes, and calls nothing of the library that it judges.

local audit = {}

function audit.count(P, ...)
  for _, field in ipairs({ ... }) do redis.call('HINCRBY', P .. ':audit', field, 1) end
end

-- the pools that this claim may use now, by name: those that serve its tenant, or of these the one that it names with
-- what falls back from it
function audit.allowed(P, claim)
  local served, raw = {}, redis.call('HGETALL', P .. ':pools')
  if (redis.call('HGET', P, 'config_version') or '0') == '0' then raw = { 'default', '{"tenants":["*"]}' } end
  for i = 1, #raw, 2 do
    local pool = cjson.decode(raw[i + 1])
    for _, tenant in ipairs(pool.tenants) do
      if tenant == '*' or tenant == claim.tenant then served[raw[i]] = pool end
    end
  end
  if claim.pool == '' then return served end
  local reached, open = {}, { claim.pool }
  while #open > 0 do
    local name = table.remove(open)
    if served[name] and not reached[name] then
      reached[name] = served[name]
      for _, further in ipairs(claim.fallback and served[name].fallback or {}) do open[#open + 1] = further end
    end
  end
  return reached
end

-- a node's raw fields, with its words as sets
function audit.node(P, id)
  local raw = redis.call('HMGET', P .. ':node:' .. id, 'state', 'slots', 'capabilities', 'labels')
  if not raw[1] then return nil end
  local node = { state = raw[1], slots = tonumber(raw[2]), offered = {}, labels = {} }
  for token in string.gmatch(raw[3], '%S+') do
    node.offered[token], node.offered[string.match(token, '^[^:]*')] = true, true
  end
  for name, value in string.gmatch(raw[4], '([^%s=]+)=(%S*)') do node.labels[name] = value end
  node.used = redis.call('ZCARD', P .. ':node:' .. id .. ':leases')
  node.deadline_ms = tonumber(redis.call('ZSCORE', P .. ':nodes', id) or 0)
  return node
end

function audit.selected(node, pool)
  for _, token in ipairs(pool.selector and pool.selector.capabilities or {}) do
    if not node.offered[token] then return false end
  end
  for name, value in pairs(pool.selector and pool.selector.labels or {}) do
    if node.labels[name] ~= value then return false end
  end
  return true
end

function audit.fits(node, claim)
  for _, tokens in ipairs(cjson.decode(claim.demand).any_of) do
    local all = true
    for _, token in ipairs(tokens) do all = all and node.offered[token] end
    if all then return true end
  end
  return false
end

function audit.takes(S, id, node, claim)
  local excluded = string.find(' ' .. (claim.exclude or '') .. ' ', ' ' .. id .. ' ', 1, true)
  return not excluded and node.state == 'ready' and node.deadline_ms > S.now and node.used < node.slots
end

-- room: how many slots the tenant may still occupy by its own quota, or nil; counted over the leases of all nodes
function audit.room(S, tenant)
  local row = redis.call('HGET', S.P .. ':tenants', tenant)
  if not row then return nil end
  local room = cjson.decode(row).concurrent_jobs
  for _, id in ipairs(redis.call('ZRANGE', S.P .. ':nodes', 0, -1)) do
    for _, job in ipairs(redis.call('ZRANGE', S.P .. ':node:' .. id .. ':leases', 0, -1)) do
      if redis.call('HGET', S.P .. ':job:' .. job, 'tenant') == tenant then room = room - 1 end
    end
  end
  return room
end

function audit.limited(S, claim)
  audit.count(S.P, 'limited')
  if (audit.room(S, claim.tenant) or 1) > 0 then audit.count(S.P, 'bad:limited_in_vain') end
end

function audit.placed(S, claim, id, pool_name)
  local node, pool = audit.node(S.P, id), audit.allowed(S.P, claim)[pool_name]
  audit.count(S.P, 'placed')
  if (audit.room(S, claim.tenant) or 1) <= 0 then audit.count(S.P, 'bad:placed_over_quota') end
  if not node or not pool or not audit.selected(node, pool) then audit.count(S.P, 'bad:placed_outside') end
  if not node or not audit.fits(node, claim) then audit.count(S.P, 'bad:placed_without_capability') end
  if not node or not audit.takes(S, id, node, claim) then audit.count(S.P, 'bad:placed_on_who_takes_none') end
end

-- class: what the caller is told, 'denied' included
function audit.refused(S, claim, class)
  local allowed, offered, free = audit.allowed(S.P, claim), false, false
  for _, id in ipairs(redis.call('ZRANGE', S.P .. ':nodes', 0, -1)) do
    local node, member = audit.node(S.P, id), false
    for _, pool in pairs(allowed) do member = member or (node and audit.selected(node, pool)) end
    if member and audit.fits(node, claim) then
      offered = true
      free = free or audit.takes(S, id, node, claim)
    end
  end
  audit.count(S.P, class == 'denied' and 'denied' or 'refused')
  if free then audit.count(S.P, 'bad:refused_in_vain') end
  if offered and class == 'impossible' then audit.count(S.P, 'bad:called_impossible') end
  if class == 'denied' and allowed[claim.pool] then audit.count(S.P, 'bad:denied_in_vain') end
end
