-- reports: what a node says of itself, checked before anything is written.

local CAPABILITIES_MAX, LABELS_MAX = 1024, 64

-- tokens_arg: distinct tokens as text, in the order given
local function tokens_arg(text, field)
  check(#text <= CAPABILITIES_MAX * 129, field, 'must be at most ' .. CAPABILITIES_MAX .. ' tokens')
  local list, seen = {}, {}
  for token in string.gmatch(text, '%S+') do
    check(#token <= 128 and string.find(token, '^%w[%w._:>-]*$'), field,
      'tokens must be 1 to 128 characters of A-Z a-z 0-9 . _ : > - and begin with a letter or digit')
    if not seen[token] then list[#list + 1], seen[token] = token, true end
    check(#list <= CAPABILITIES_MAX, field, 'must be at most ' .. CAPABILITIES_MAX .. ' tokens')
  end
  return table.concat(list, ' ')
end

local function labels_arg(text)
  check(#text <= LABELS_MAX * 194, 'labels', 'must be at most ' .. LABELS_MAX)
  local list, seen = words(text), {}
  check(#list <= LABELS_MAX, 'labels', 'must be at most ' .. LABELS_MAX)
  for _, pair in ipairs(list) do
    local name = #pair <= 193 and string.match(pair, '^(%w[%w._/-]*)=[%w._:/-]*$')
    check(name and #name <= 64, 'labels', 'must be key=value words of A-Z a-z 0-9 . _ - / up to 64 and 128 characters')
    check(not seen[name], 'labels', 'must name each key once')
    seen[name] = true
  end
  return table.concat(list, ' ')
end

-- node_values: the fields that a node reports about itself, checked; absent ones stay absent.
local function node_values(fields)
  local values = {}
  for _, resource in ipairs({ 'cpu', 'gpu', 'mem', 'cpu_max', 'gpu_max', 'mem_max' }) do
    if fields[resource] then
      percent_arg(fields[resource], resource)
      values[resource] = fields[resource]
    end
  end
  if fields.slots then values.slots = integer_arg(fields.slots, 'slots', 1, 1000000) end
  if fields.capabilities then values.capabilities = tokens_arg(fields.capabilities, 'capabilities') end
  if fields.labels then values.labels = labels_arg(fields.labels) end
  return values
end
