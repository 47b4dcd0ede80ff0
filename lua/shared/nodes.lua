-- nodes: a node's record, the one rule that says whether it can take a job, and the indexes that follow from it.

local NODE_FIELDS = { 'state', 'incarnation', 'slots', 'config_version', 'cpu', 'gpu', 'mem', 'cpu_max', 'gpu_max',
  'mem_max', 'ttl_ms', 'share', 'quarantined_until_ms', 'drain_until_ms',
  'capabilities', 'labels', 'pools', 'structure', 'endpoint' }

-- Fields of a node that has no limits of its own, never failed and was never drained: nearly every node. A field that is
-- not there costs Redis a search of the whole hash, so whoever reads many nodes counts the fields first.
local PLAIN_FIELDS = 16

-- node_of: spelled out, because a table that grows field by field costs several times as much
local function node_of(id, held)
  return held[1] and { id = id, state = held[1], incarnation = held[2], slots = tonumber(held[3]), config_version = held[4],
    cpu = held[5], gpu = held[6], mem = held[7], cpu_max = held[8], gpu_max = held[9], mem_max = held[10],
    ttl_ms = tonumber(held[11]), share = held[12], quarantined_until_ms = held[13], drain_until_ms = held[14],
    capabilities = held[15], labels = held[16], pools = held[17], structure = held[18], endpoint = held[19] }
end

-- node_read: the node's hash as a table with its id, or nil; slots and ttl_ms are numbers.
local function node_read(S, id) return node_of(id, redis.call('HMGET', node_key(S.P, id), unpack(NODE_FIELDS))) or nil end

-- node_over: the resources whose load is above the limit, the node's own or the fleet's, as words; '' where none is.
local function node_over(S, node)
  local limits, over = pool_config(S).limits, ''
  if (tonumber(node.cpu) or 0) > tonumber(node.cpu_max or limits.cpu) then over = ' cpu' end
  if (tonumber(node.gpu) or 0) > tonumber(node.gpu_max or limits.gpu) then over = over .. ' gpu' end
  if (tonumber(node.mem) or 0) > tonumber(node.mem_max or limits.mem) then over = over .. ' mem' end
  return string.sub(over, 2)
end

-- node_quarantined: until its time is over and a heartbeat or reaping has let it out
local function node_quarantined(node) return node.quarantined_until_ms and true or false end

-- node_obstacle: why the node can take no job now, or nil. The lapse of its heartbeat is the callers' to check.
local function node_obstacle(S, node, used)
  if node.state ~= 'ready' then return node.state end
  if node_quarantined(node) then return 'quarantined' end
  if (node.over or node_over(S, node)) ~= '' then return 'overloaded' end
  if used >= node.slots then return 'full' end
end

-- node_changed: give the node a new, unique version, which every mirror will meet.
local function node_changed(S, id)
  S.version = redis.call('HINCRBY', S.P, 'version', 1)
  redis.call('ZADD', S.P .. ':changed', S.version, id)
end

local function structure_changed(S, id)
  node_changed(S, id)
  S.structure_version = number_text(S.version)
  redis.call('HSET', S.P, 'structure_version', S.version)
  redis.call('HSET', node_key(S.P, id), 'structure', S.version)
end

local function node_used(S, id) return redis.call('ZCARD', leases_key(S.P, id)) end

-- Defined in serving.lua.
local node_serve

-- free_settle: put the node into P:free or take it out, as the rule says. Returns whether it is free, and its used
-- slots. Mirrors are told where that moved it, or where there is other news of it.
local function free_settle(S, node, news)
  local used = node_used(S, node.id)
  local free = not node_obstacle(S, node, used)
  local moved = redis.call(free and 'SADD' or 'SREM', S.P .. ':free', node.id)
  if moved == 1 or news then node_changed(S, node.id) end
  return free, used
end

-- node_settle: the same, and the jobs that wait get the slots that are free.
local function node_settle(S, node, news)
  if free_settle(S, node, news) then node_serve(S, node) end
end

-- token_set: tokens and their part before the first colon, as a set
local function token_set(text)
  local set = {}
  for _, token in ipairs(words(text)) do
    set[token] = true
    local prefix = string.match(token, '^(.-):')
    if prefix and prefix ~= '' then set[prefix] = true end
  end
  return set
end

local function label_table(text)
  local labels = {}
  for _, pair in ipairs(words(text)) do
    local name, value = string.match(pair, '^(.-)=(.*)$')
    labels[name] = value
  end
  return labels
end

-- index_move: bring the sets key..name from the members named in old to those in new. Returns whether one changed.
local function index_move(key, id, old, new)
  local changed = false
  for name in pairs(old) do
    if not new[name] then redis.call('SREM', key .. name, id); changed = true end
  end
  for name in pairs(new) do
    if not old[name] then redis.call('SADD', key .. name, id); changed = true end
  end
  return changed
end

-- node_pools: the pools that the node belongs to under the current configuration, as words in order.
local function node_pools(S, node)
  local offered, labels, names = token_set(node.capabilities), label_table(node.labels), {}
  local spoken = spoken_by(offered)
  for name, pool in pairs(pool_config(S).pools) do
    if pool_selects(pool, offered, labels, spoken) then names[#names + 1] = name end
  end
  table.sort(names)
  return table.concat(names, ' ')
end

-- node_place: bring the node's pools under the current configuration. Returns whether they changed.
local function node_place(S, node)
  if pool_config(S).language_pools then language_pool_ensure(S, spoken_by(token_set(node.capabilities))) end
  local before, pools = word_set(node.pools), node_pools(S, node)
  local now = word_set(pools)
  local changed = index_move(S.P .. ':pool:', node.id, before, now)
  for name in pairs(before) do
    if not now[name] then language_pool_leave(S, name) end
  end
  node.pools, node.config_version = pools, S.config_version
  redis.call('HSET', node_key(S.P, node.id), 'pools', pools, 'config_version', S.config_version)
  redis.call('ZADD', S.P .. ':settled', S.config_version, node.id)
  return changed
end

-- node_bring: put the node where the current configuration has it, if no heartbeat has done so yet. Returns whether
-- that took it out of P:free, or left it out. It serves nobody: the look for one job that meets the node must find each
-- job and each slot as it left them. The node's heartbeat or reaping serves.
local function node_bring(S, node)
  if node.config_version == S.config_version then return false end
  if node_place(S, node) then structure_changed(S, node.id) end
  return not free_settle(S, node, true)
end

-- What reading a node whole and bringing it under the configuration cost, in units of about 0.1 µs of S.budget, which is
-- what this call may still spend.
local CONSIDER_COST, BRING_COST = 150, 250
-- What a long list of capabilities (a byte) and each configured pool add to bringing a node.
local BRING_BYTE_COST, BRING_POOL_COST = 1, 5

local function bring_cost(S, node)
  return BRING_COST + BRING_BYTE_COST * #node.capabilities + BRING_POOL_COST * #pool_config(S).names
end

local function spend(S, cost) S.budget = S.budget - cost end

-- settle_some: bring in nodes that no heartbeat has brought under the current configuration yet, within the budget.
-- Returns whether all of them are settled now.
local function settle_some(S)
  local below = '(' .. S.config_version
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', S.P .. ':settled', '-inf', below, 'LIMIT', 0, 32)) do
    if S.budget <= 0 then return false end
    local node = node_read(S, id)
    spend(S, CONSIDER_COST + bring_cost(S, node))
    node_bring(S, node)
  end
  return redis.call('ZCOUNT', S.P .. ':settled', '-inf', below) == 0
end

-- leases_orphan: the node is gone or is another process now: what it held waits for reaping under its incarnation.
local function leases_orphan(S, node)
  local orphan = node.id .. ':' .. node.incarnation
  redis.call('DEL', inbox_key(S.P, node.id))
  if node_used(S, node.id) == 0 then return end
  redis.call('RENAME', leases_key(S.P, node.id), S.P .. ':orphan:' .. orphan)
  if redis.call('EXISTS', ending_key(S.P, node.id)) == 1 then
    redis.call('RENAME', ending_key(S.P, node.id), S.P .. ':orphan:' .. orphan .. ':ending')
  end
  redis.call('SADD', S.P .. ':orphans', orphan)
end

-- node_drop: take every trace of the node out, but for the tombstone that tells the mirrors.
local function node_drop(S, node)
  leases_orphan(S, node)
  index_move(S.P .. ':cap:', node.id, token_set(node.capabilities), {})
  index_move(S.P .. ':pool:', node.id, word_set(node.pools), {})
  for _, name in ipairs(words(node.pools)) do language_pool_leave(S, name) end
  redis.call('SREM', S.P .. ':free', node.id)
  redis.call('ZREM', S.P .. ':quarantined', node.id)
  redis.call('ZREM', S.P .. ':lost', node.id)
  redis.call('ZREM', S.P .. ':nodes', node.id)
  redis.call('ZREM', S.P .. ':settled', node.id)
  structure_changed(S, node.id)
  redis.call('DEL', node_key(S.P, node.id))
  redis.call('ZADD', S.P .. ':removed', number_text(S.now), node.id)
end
