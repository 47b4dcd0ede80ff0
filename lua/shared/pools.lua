-- pools: the configuration as Lua tables, and which pools a request may use in which order.

local LOAD_MAX = 85

-- One decoded configuration is kept between calls. Its name holds the epoch, so it is never another fleet's.
local pool_cache = { name = false }

-- pool_filled: what a configuration leaves out
local function pool_filled(pool)
  pool.selector, pool.tenants, pool.fallback = pool.selector or {}, pool.tenants or { '*' }, pool.fallback or {}
  pool.priority, pool.strategy = pool.priority or 0, pool.strategy or 'spread'
  pool.serves = {}
  for _, tenant in ipairs(pool.tenants) do pool.serves[tenant] = true end
  return pool
end

-- names_ranked: the names of all pools, higher priorities first, then by name
local function names_ranked(pools)
  local names = {}
  for name in pairs(pools) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    local first, second = pools[a].priority, pools[b].priority
    if first ~= second then return first > second end
    return a < b
  end)
  return names
end

-- pool_config: pools by name; their names by priority; limits, the fleet's default of each resource; language_pools, false
-- where they are off; weights of tenants in the queues.
local function pool_config(S)
  if S.config and S.config.version == S.config_version then return S.config end
  local name = S.P .. (S.epoch or '') .. ':' .. S.config_version
  if S.epoch and pool_cache.name == name then
    S.config = pool_cache
    return pool_cache
  end
  local config = { name = name, version = S.config_version, pools = {}, orders = {}, order_count = 0, limits = {},
    language_pools = false, weights = {} }
  local stored = redis.call('HGETALL', S.P .. ':pools')
  for i = 1, #stored, 2 do config.pools[stored[i]] = pool_filled(cjson.decode(stored[i + 1])) end
  if S.config_version == '0' then config.pools['default'] = pool_filled({}) end
  config.names = names_ranked(config.pools)
  local held = redis.call('HMGET', S.P, 'cpu_max', 'gpu_max', 'mem_max', 'language_pools', 'weights')
  for i, resource in ipairs({ 'cpu', 'gpu', 'mem' }) do config.limits[resource] = tonumber(held[i] or LOAD_MAX) end
  if held[4] then config.language_pools = cjson.decode(held[4]) end
  if held[5] then config.weights = cjson.decode(held[5]) end
  pool_cache, S.config = config, config
  return config
end

local function pool_serves(pool, tenant) return pool.serves['*'] or pool.serves[tenant] or false end

local function pool_add(order, pools, name, tenant)
  local pool = pools[name]
  if pool and not order.rank[name] and pool_serves(pool, tenant) then
    order[#order + 1] = name
    order.rank[name] = #order
  end
end

-- pool_speaks: a language pool is for the requests whose languages it contains, and only for these.
local function pool_speaks(pool, languages)
  if not pool.languages then return true end
  local spoken = {}
  for _, language in ipairs(pool.languages) do spoken[language] = true end
  for language in string.gmatch(languages, '%S+') do
    if not spoken[language] then return false end
  end
  return languages ~= ''
end

-- pool_order: the pools for a request, best first, with .rank by name and .pack by rank: the named pool or the tenant's by priority
-- then name; then fallbacks, breadth first. Nil where the named pool is unknown or does not serve the tenant.
local function pool_order(S, tenant, named, fallback, languages)
  local config = pool_config(S)
  if not config.language_pools then languages = '' end
  local cached = tenant .. ' ' .. named .. (fallback and ' + ' or ' - ') .. languages
  if config.orders[cached] then return config.orders[cached] end
  local order, pools = { rank = {}, pack = {}, config_version = S.config_version }, config.pools
  if named ~= '' then
    pool_add(order, pools, named, tenant)
    if #order == 0 then return nil end
  else
    for _, name in ipairs(config.names) do
      if pool_speaks(pools[name], languages) then pool_add(order, pools, name, tenant) end
    end
  end
  local at = 1
  while fallback and at <= #order do
    for _, name in ipairs(pools[order[at]].fallback) do pool_add(order, pools, name, tenant) end
    at = at + 1
  end
  for rank, name in ipairs(order) do order.pack[rank] = pools[name].strategy == 'pack' end
  -- tenants come from outside: the memory of their orders is bounded
  if config.order_count >= 1000 then config.orders, config.order_count = {}, 0 end
  config.orders[cached], config.order_count = order, config.order_count + 1
  return order
end

-- pool_selects: whether the pool selects a node; spoken is the node's set of semantic languages, joined by '-'.
local function pool_selects(pool, offered, labels, spoken)
  if pool.languages then return table.concat(pool.languages, '-') == spoken end
  for _, token in ipairs(pool.selector.capabilities or {}) do
    if not offered[token] then return false end
  end
  for label, value in pairs(pool.selector.labels or {}) do
    if labels[label] ~= value then return false end
  end
  return true
end
