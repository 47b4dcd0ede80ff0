#!lua name=fleet1
-- prelude: what every function stands on: replies, argument checks, keys and the shard clock.
-- The loader joins prelude.lua, shared/*.lua and the function files, in this order, into one library.

local ABI, REVISION = 1, 1
local MAX_ARGUMENTS = 64

local function reply(...) return { ... } end

-- check: misuse leaves the handler here, before anything is written; define() turns it into BADARG.
local function check(condition, field, what)
  if not condition then error({ badarg = field .. ' ' .. what }) end
end

local function guarded(handler, most, keys, args)
  check(#keys == 1 and #keys[1] <= 160 and string.find(keys[1], '^%w[%w._-]*:{%w+}$'),
    'key', 'must be one shard prefix such as fleet:{0}')
  check(#args <= most, 'arguments', 'must be at most ' .. most)
  return handler(keys[1], unpack(args))
end

-- define: register fleet1_<name>; flags are Redis's own (no-writes, allow-oom); most is how many arguments it takes.
local function define(name, handler, flags, most)
  redis.register_function {
    function_name = 'fleet1_' .. name,
    flags = flags or {},
    callback = function(keys, args)
      local ok, result = pcall(guarded, handler, most or MAX_ARGUMENTS, keys, args)
      if ok then return result end
      if type(result) == 'table' and result.badarg then return redis.error_reply('BADARG ' .. result.badarg) end
      local text = type(result) == 'table' and result.err or tostring(result)
      return redis.error_reply('INTERNAL ' .. name .. ' ' .. string.gsub(text, '%c', ' '))
    end,
  }
end

local function number_text(value) return string.format('%.0f', value) end

local function id_arg(value, field)
  check(value and #value <= 64 and string.find(value, '^%w[%w._-]*$'),
    field, 'must be 1 to 64 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit')
  return value
end

-- a stored job id: made by a replica, or <tenant>:<id> where the client chose it
local function job_arg(value)
  check(value and #value <= 129 and string.find(value, '^%w[%w._-]*:?[%w._-]*$'),
    'job', 'must be 1 to 129 characters of A-Z a-z 0-9 . _ - with at most one colon')
  return value
end

local function integer_arg(value, field, low, high)
  local number = value and #value <= 16 and string.find(value, '^%d+$') and tonumber(value)
  check(number and number >= low and number <= high, field,
    'must be a whole number from ' .. number_text(low) .. ' to ' .. number_text(high))
  return number
end

local function percent_arg(value, field)
  local number = #value <= 32 and string.find(value, '^%d+%.?%d*$') and tonumber(value)
  check(number and number <= 100, field, 'must be a number from 0 to 100')
  return number
end

-- field_args: the trailing "name value" pairs of a call as a table; only names in allowed are taken.
local function field_args(allowed, ...)
  local list, fields = { ... }, {}
  for i = 1, #list, 2 do
    local name, value = list[i], list[i + 1]
    check(allowed[name], 'arguments', 'must be known field names, each followed by its value')
    check(value ~= nil, name, 'has no value')
    check(fields[name] == nil, name, 'is given twice')
    fields[name] = value
  end
  return fields
end

-- decode_arg: msgpack or JSON from outside, which raises inside the decoder when it is broken.
local function decode_arg(decoder, value, field)
  check(value, field, 'is missing')
  local ok, decoded, more = pcall(decoder, value)
  check(ok and type(decoded) == 'table' and more == nil, field, 'cannot be decoded')
  return decoded
end

local function node_key(P, node) return P .. ':node:' .. node end
local function leases_key(P, node) return P .. ':node:' .. node .. ':leases' end
local function inbox_key(P, node) return P .. ':node:' .. node .. ':inbox' end
local function ending_key(P, node) return P .. ':node:' .. node .. ':ending' end
local function job_key(P, job) return P .. ':job:' .. job end

-- shard_open: one read of the shard's meta and clock; writes nothing, so that a rejected call changes no key.
-- now_ms follows Redis's TIME by at most 1 s a step and never goes back: it stands still while Redis was away.
local function shard_open(P)
  local meta = redis.call('HMGET', P, 'epoch', 'clock', 'clock_seen_at_ms', 'config_version',
    'structure_version', 'reaped_ms', 'version')
  local time = redis.call('TIME')
  local S = {
    P = P, epoch = meta[1], time_us = tonumber(time[1]) * 1000000 + tonumber(time[2]),
    config_version = meta[4] or '0', structure_version = meta[5] or '0',
    reaped_ms = tonumber(meta[6] or 0), version = tonumber(meta[7] or 0),
  }
  S.time_ms = math.floor(S.time_us / 1000)
  local clock, seen = tonumber(meta[2]), tonumber(meta[3])
  if not clock then
    S.now, S.clock_due = S.time_ms, true
  elseif S.time_ms < seen then
    -- the wall clock stepped back: start from it anew, past all that may have been handed out unwritten
    S.now, S.clock_due = clock + 100, true
  else
    S.now = clock + math.min(S.time_ms - seen, 1000)
    S.clock_due = S.time_ms - seen >= 100
  end
  return S
end

-- shard_write: the first write of a call that goes through: creates the shard, keeps its clock.
local function shard_write(S)
  if not S.epoch then
    S.epoch = string.sub(redis.sha1hex(S.P .. number_text(S.time_us)), 1, 16)
    redis.call('HSET', S.P, 'abi', ABI, 'revision', REVISION, 'shards', 1, 'version', 0,
      'structure_version', 0, 'config_version', 0, 'epoch', S.epoch)
  end
  if S.clock_due then
    redis.call('HSET', S.P, 'clock', number_text(S.now), 'clock_seen_at_ms', number_text(S.time_ms))
    S.clock_due = false
  end
end

-- event: one line of the lifecycle record.
local function event(S, kind, ...)
  redis.call('XADD', S.P .. ':events', 'MAXLEN', '~', 10000, '*', 'kind', kind, ...)
end

-- unique_number: rises with every use for one owner, also when the owner's last number was forgotten.
local function unique_number(S, last) return number_text(math.max((tonumber(last) or 0) + 1, S.time_us)) end
