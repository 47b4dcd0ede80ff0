-- languages: the optional automatic pools: nodes with the same set of semantic languages form one, named by the set.

local LANGUAGE_POOLS_MAX = 50

-- spoken_by: the node's semantic languages in order, joined by '-' as their pool is named; '' where they name none.
local function spoken_by(offered)
  local list = {}
  for token in pairs(offered) do
    local language = string.match(token, '^semantic:(.+)$')
    if language and string.find(language, '^%w[%w-]*$') then list[#list + 1] = language end
  end
  table.sort(list)
  local name = table.concat(list, '-')
  return #name <= 64 and name or '', list
end

local function template_text(template)
  return '{"max":' .. number_text(template.max or LANGUAGE_POOLS_MAX) .. ',' .. choice_text(template) .. '}'
end

local function language_pool_store(S, name, list, template)
  local pool = { languages = list }
  for field, value in pairs(template) do pool[field] = field ~= 'max' and value or nil end
  redis.call('HSET', S.P .. ':pools', name, pool_text(pool))
end

-- language_pools_kept: the automatic pools that a new configuration leaves, by name; they are stored by its template.
local function language_pools_kept(S, held, names, template)
  local kept = {}
  for name, pool in pairs(held) do
    if template and pool.languages and not names[name] then kept[#kept + 1] = name end
  end
  table.sort(kept)
  for i, name in ipairs(kept) do
    if i <= (template.max or LANGUAGE_POOLS_MAX) then language_pool_store(S, name, held[name].languages, template) end
  end
end

-- language_pool_ensure: the pool of these languages exists, unless it is configured by hand or one too many.
local function language_pool_ensure(S, name, list)
  local config = pool_config(S)
  local template = config.language_pools
  if not template or name == '' or config.pools[name] then return end
  local count = 0
  for _, pool in pairs(config.pools) do count = count + (pool.languages and 1 or 0) end
  if count >= (template.max or LANGUAGE_POOLS_MAX) then return end
  language_pool_store(S, name, list, template)
  config_changed(S)
end

-- language_pool_leave: the last member of an automatic pool takes it along.
local function language_pool_leave(S, name)
  local pool = pool_config(S).pools[name]
  if not pool or not pool.languages or redis.call('EXISTS', S.P .. ':pool:' .. name) == 1 then return end
  redis.call('HDEL', S.P .. ':pools', name)
  config_changed(S)
end
