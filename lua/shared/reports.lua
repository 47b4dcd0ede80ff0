-- reports: what a node says of itself, checked before anything is written, and what follows from it for others.

local CAPABILITIES_MAX, LABELS_MAX = 1024, 64
local LOADS = { cpu = true, gpu = true, mem = true, cpu_max = true, gpu_max = true, mem_max = true }

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

-- node_values: check what a node reports about itself and bring it into its stored form, in place.
local function node_values(fields)
  for name, value in pairs(fields) do
    if LOADS[name] then percent_arg(value, name) end
  end
  if fields.slots then fields.slots = integer_arg(fields.slots, 'slots', 1, 1000000) end
  if fields.capabilities then fields.capabilities = tokens_arg(fields.capabilities, 'capabilities') end
  if fields.labels then fields.labels = labels_arg(fields.labels) end
  return fields
end

-- offer_grows: whether what it offers and says of itself becomes longer
local function offer_grows(node, values)
  local labels = values.labels or node.labels
  return #(values.capabilities or node.capabilities) + #labels > #node.capabilities + #node.labels
end

-- running_arg: the jobs that a node says it runs, each followed by its fence
local function running_arg(text)
  local running = words(text)
  check(#running % 2 == 0 and #running <= 2000, 'running', 'must be at most 1000 pairs of job and fence')
  for i = 1, #running, 2 do
    job_arg(running[i])
    integer_arg(running[i + 1], 'running', 1, 9007199254740992)
  end
  return running
end

-- tell_endings: cancelled attempts that the node has not confirmed; each keeps its lease until then
local function tell_endings(P, id, answer)
  local endings = redis.call('HGETALL', ending_key(P, id))
  for i = 1, #endings, 2 do
    answer[#answer + 1], answer[#answer + 2] = 'cancel', endings[i] .. ' ' .. string.match(endings[i + 1], '^%S+')
  end
end

-- share_moved: whether the free share is other by a tenth than what mirrors were told
local function share_moved(told, used, slots)
  local share = 1 - math.min(used / slots, 1)
  return math.abs(share - tonumber(told)) >= 0.0999 and share
end

-- share_report: mirrors learn of a free share that moved
local function share_report(S, node, used)
  local share = share_moved(node.share, used, node.slots)
  if not share then return end
  redis.call('HSET', node_key(S.P, node.id), 'share', string.format('%.3f', share))
  node_changed(S, node.id)
end

local MEASURED = { cpu = true, gpu = true, mem = true }

-- calm_loads: whether all that is given are loads, each once and under the fleet's limit
local function calm_loads(limits, given)
  if #given > 6 then return false end
  for i = 1, #given, 2 do
    local name, value = given[i], given[i + 1]
    if not MEASURED[name] or not value or #value > 32 or not string.find(value, '^%d%d?%.?%d*$') or tonumber(value) > limits[name] then
      return false
    end
  end
  return given[1] ~= given[3] and (not given[5] or (given[5] ~= given[1] and given[5] ~= given[3]))
end

-- calm_beat: the heartbeat of nearly every node nearly every time, at half the cost: a plain node that takes jobs under
-- the present configuration tells loads that are under the limits as before, its free share is as told, no attempt is
-- left to confirm, and nobody waits. For any other it writes nothing and answers nil.
local function calm_beat(S, id, incarnation, given)
  local P, key, limits = S.P, node_key(S.P, id), pool_config(S).limits
  if not calm_loads(limits, given) or redis.call('HLEN', key) ~= PLAIN_FIELDS then return nil end
  local held = redis.call('HMGET', key, 'config_version', 'slots', 'incarnation', 'state', 'cpu', 'gpu', 'mem', 'ttl_ms',
    'share')
  if held[1] ~= S.config_version or held[3] ~= incarnation or held[4] ~= 'ready' or tonumber(held[5]) > limits.cpu
    or tonumber(held[6]) > limits.gpu or tonumber(held[7]) > limits.mem then return nil end
  local used, slots = node_used(S, id), tonumber(held[2])
  if used >= slots or share_moved(held[9], used, slots) or redis.call('EXISTS', P .. ':waiting') == 1
    or (used > 0 and redis.call('EXISTS', ending_key(P, id)) == 1) then return nil end
  shard_write(S)
  redis.call('HSET', key, 'heartbeat_at_ms', S.time_text, unpack(given))
  local ttl_ms = tonumber(held[8])
  redis.call('ZADD', P .. ':nodes', number_text(S.now + ttl_ms), id)
  if redis.call('SADD', P .. ':free', id) == 1 then node_changed(S, id) end
  return { 'ok', ttl_ms }
end
