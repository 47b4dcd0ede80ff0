#!lua name=fleet1
-- prelude: what every function stands on: replies, words and argument checks.
-- The loader joins prelude.lua, shared/*.lua and the function files, in this order, into one library.

local ABI, REVISION = 1, 2
local MAX_ARGUMENTS = 64

local function reply(...) return { ... } end

-- check: misuse leaves the handler here, before anything is written; define() turns it into BADARG.
local function check(condition, field, what)
  if not condition then error({ badarg = field .. ' ' .. what }) end
end

-- The shard that was called last: its key need not be judged again.
local last_key

local function guarded(handler, most, keys, args)
  if #keys ~= 1 or keys[1] ~= last_key then
    check(#keys == 1 and #keys[1] <= 160 and string.find(keys[1], '^%w[%w._-]*:{%w+}$'),
      'key', 'must be one shard prefix such as fleet:{0}')
    last_key = keys[1]
  end
  if #args > most then check(false, 'arguments', 'must be at most ' .. most) end
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
      if type(result) == 'table' and result.moving then return reply('moving') end
      local text = type(result) == 'table' and result.err or tostring(result)
      return redis.error_reply('INTERNAL ' .. name .. ' ' .. string.gsub(text, '%c', ' '))
    end,
  }
end

local function word_set(text)
  local set = {}
  for word in string.gmatch(text or '', '%S+') do set[word] = true end
  return set
end

local function words(text)
  local list = {}
  for word in string.gmatch(text or '', '%S+') do list[#list + 1] = word end
  return list
end

local function number_text(value) return string.format('%d', value) end

local function id_arg(value, field)
  check(type(value) == 'string' and #value <= 64 and string.find(value, '^%w[%w._-]*$'),
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
  -- every call comes through here: the text is made only where it is needed
  if number and number >= low and number <= high then return number end
  check(false, field, 'must be a whole number from ' .. number_text(low) .. ' to ' .. number_text(high))
end

-- by_arg: who acts, for the audit; nil where that is not said
local function by_arg(value)
  if value == nil or value == '' then return nil end
  check(#value <= 128 and string.find(value, '^[%w._:@/-]+$'), 'by', 'must be at most 128 characters of A-Z a-z 0-9 . _ : @ / -')
  return value
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
