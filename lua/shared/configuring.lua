-- configuring: what a pool may be by itself and pools may be together, and the one form in which they are stored.

local POOLS_MAX, POOL_BYTES_MAX, TENANTS_MAX, FALLBACKS_MAX = 200, 8192, 100, 16
local POOL_FIELDS = { selector = true, tenants = true, fallback = true, strategy = true, priority = true, d = true }
local SELECTOR_FIELDS = { capabilities = true, labels = true, all = true }
local ID_PATTERN, TOKEN_PATTERN = '^%w[%w._-]*$', '^%w[%w._:>-]*$'

-- texts_checked: a list of distinct texts; a JSON object that is not empty is no list
local function texts_checked(list, field, most, pattern, length, also)
  check(type(list) == 'table', field, 'must be a list')
  local seen, count = {}, 0
  for key in pairs(list) do
    count = count + 1
    check(type(key) == 'number' and count <= most, field, 'must be a list of at most ' .. most)
  end
  for _, text in ipairs(list) do
    check(type(text) == 'string' and #text <= length and (text == also or string.find(text, pattern)), field,
      'must be a list of texts of at most ' .. length .. ' of the letters that it allows')
    check(not seen[text], field, 'must name each only once')
    seen[text] = true
  end
  return list
end

-- left_out: the value, or another where there is none; false is a value, and mostly a wrong one
local function left_out(value, other)
  if value == nil then return other end
  return value
end

-- fields_checked: an object with known names only; at is what stands before them in errors, such as 'selector.', and
-- whole is what the object is called itself. An empty list is an empty object: the decoder cannot tell them apart.
local function fields_checked(value, at, known, whole)
  whole = whole or (at == '' and 'json' or string.sub(at, 1, -2))
  check(type(value) == 'table', whole, 'must be an object')
  for name in pairs(value) do
    local sayable = type(name) == 'string' and #name <= 64 and string.find(name, '^[%w_.-]+$')
    check(known[name], sayable and at .. name or whole, sayable and 'is not known here' or 'has a name that is not known')
  end
end

local function whole_checked(value, field, low, high)
  check(value == nil or (type(value) == 'number' and value % 1 == 0 and value >= low and value <= high), field,
    'must be a whole number from ' .. low .. ' to ' .. high)
end

-- choice_checked: what a pool and the template of language pools have in common
local function choice_checked(pool, at)
  if pool.tenants ~= nil then
    texts_checked(pool.tenants, at .. 'tenants', TENANTS_MAX, ID_PATTERN, 64, '*')
    check(#pool.tenants > 0, at .. 'tenants', 'must name a tenant, or be left out for all')
  end
  if pool.fallback ~= nil then texts_checked(pool.fallback, at .. 'fallback', FALLBACKS_MAX, ID_PATTERN, 64) end
  check(pool.strategy == nil or pool.strategy == 'spread' or pool.strategy == 'pack', at .. 'strategy',
    'must be spread or pack')
  whole_checked(pool.priority, at .. 'priority', -1000, 1000)
  whole_checked(pool.d, at .. 'd', 1, 16)
end

-- pool_checked: one pool by itself
local function pool_checked(pool, at)
  fields_checked(pool, at, POOL_FIELDS)
  local selector = left_out(pool.selector, {})
  fields_checked(selector, at .. 'selector.', SELECTOR_FIELDS)
  local tokens = texts_checked(left_out(selector.capabilities, {}), at .. 'selector.capabilities', 64, TOKEN_PATTERN, 128)
  local labels, count = left_out(selector.labels, {}), 0
  check(type(labels) == 'table', at .. 'selector.labels', 'must be an object')
  for name, value in pairs(labels) do
    count = count + 1
    check(count <= 64 and type(name) == 'string' and #name <= 64 and string.find(name, '^%w[%w._/-]*$')
      and type(value) == 'string' and #value <= 128 and string.find(value, '^[%w._:/-]*$'),
      at .. 'selector.labels', 'must be at most 64 names with texts in the letters of labels')
  end
  check(selector.all == nil or type(selector.all) == 'boolean', at .. 'selector.all', 'must be true or false')
  local empty = #tokens == 0 and count == 0
  check(not empty or selector.all, at .. 'selector', 'would select every node: say so with {"all": true}')
  check(empty or not selector.all, at .. 'selector', 'must be all, or capabilities and labels, not both')
  choice_checked(pool, at)
end

-- fallbacks_checked: every fallback is a configured pool, and none leads back to where it came from
local function fallbacks_checked(pools, at_of)
  local done = {}
  local function visit(name, path, field)
    if done[name] then return end
    for at, passed in ipairs(path) do
      -- the sentence is made only for a cycle: making it at each step of many paths would hold Redis for a second
      if passed == name then check(false, field, 'makes a cycle: ' .. table.concat(path, ' > ', at) .. ' > ' .. name) end
    end
    path[#path + 1] = name
    for _, next_name in ipairs(pools[name].fallback or {}) do
      local said = at_of(name) .. 'fallback'
      check(pools[next_name] and not pools[next_name].languages, said, 'names the unknown pool ' .. next_name)
      visit(next_name, path, said)
    end
    path[#path] = nil
    done[name] = true
  end
  for name in pairs(pools) do visit(name, {}, at_of(name) .. 'fallback') end
end

local function list_text(list)
  if #list == 0 then return '[]' end
  return '["' .. table.concat(list, '","') .. '"]'
end

-- choice_text: what choice_checked checks as JSON members; adding 0 makes one of the two zeros
local function choice_text(pool)
  return '"tenants":' .. list_text(pool.tenants or { '*' }) .. ',"fallback":' .. list_text(pool.fallback or {})
    .. ',"strategy":"' .. (pool.strategy or 'spread') .. '","priority":' .. number_text((pool.priority or 0) + 0)
    .. (pool.d and ',"d":' .. number_text(pool.d) or '')
end

-- pool_text: the pool as JSON in one fixed form; the letters that are allowed need no escapes
local function pool_text(pool)
  local selector, labels = pool.selector or {}, {}
  for name, value in pairs(selector.labels or {}) do labels[#labels + 1] = '"' .. name .. '":"' .. value .. '"' end
  table.sort(labels)
  local parts = selector.all and { '"all":true' } or {}
  if #(selector.capabilities or {}) > 0 then parts[#parts + 1] = '"capabilities":' .. list_text(selector.capabilities) end
  if #labels > 0 then parts[#parts + 1] = '"labels":{' .. table.concat(labels, ',') .. '}' end
  return '{"selector":{' .. table.concat(parts, ',') .. '},' .. choice_text(pool)
    .. (pool.languages and ',"languages":' .. list_text(pool.languages) or '') .. '}'
end

-- stored_checked: the text of a sound pool, which must not be too long to keep
local function stored_checked(pool, field)
  local text = pool_text(pool)
  check(#text <= POOL_BYTES_MAX, field, 'must be at most ' .. POOL_BYTES_MAX .. ' bytes as it is stored')
  return text
end

-- weights_text: the weights as JSON in one fixed form, or nil where there are none
local function weights_text(weights)
  check(type(weights) == 'table', 'weights', 'must be an object')
  local parts = {}
  for tenant, weight in pairs(weights) do
    id_arg(tenant, 'weights')
    whole_checked(weight, 'weights.' .. tenant, 1, 100)
    parts[#parts + 1] = '"' .. tenant .. '":' .. number_text(weight)
    check(#parts <= TENANTS_MAX, 'weights', 'must be at most ' .. TENANTS_MAX)
  end
  table.sort(parts)
  return parts[1] and '{' .. table.concat(parts, ',') .. '}'
end

-- config_changed: from here on every node's pools are to be computed anew. The number never comes twice, also after a
-- failover that forgot the last one, for configurations are remembered by it.
local function config_changed(S)
  S.config_version = unique_number(S, S.config_version)
  redis.call('HSET', S.P, 'config_version', S.config_version)
end
