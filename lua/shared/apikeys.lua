-- apikeys: their ids, and the version by which replicas know that one has changed.

local function apikey_arg(value, field)
  check(type(value) == 'string' and #value >= 8 and #value <= 32 and string.find(value, '^[0-9a-z]+$'),
    field, 'must be 8 to 32 characters of a-z 0-9')
  return value
end

-- apikeys_changed: from the first one on a key is needed, also when the last one is gone
local function apikeys_changed(S)
  local version = unique_number(S, redis.call('HGET', S.P, 'apikeys_version'))
  redis.call('HSET', S.P, 'apikeys_version', version)
  return version
end
