-- apikey_put: store an API key, or give one that is known another secret. Up to 100 expired ones go on the way.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] apikey       id
-- ARGV[2] json         hash, tenant, role, created_at_ms; optional: expires_at_ms, node (of the role node), parent with
--                      parent_hash, old_hash with old_expires_at_ms
-- ARGV[3] seen         optional: the hash that the stored key must still have
-- ARGV[4] by           optional: who does so, for the audit; seen may be '' then
-- Reply   stored <version> | exists | changed | unknown; without seen it must be new, with it must be known
-- Cost    O(log keys); at most 10,000 keys
local KEYS_MAX, PURGED_MAX = 10000, 100
local ROLES = { submit = true, node = true, operator = true, admin = true }
local TEXTS = { hash = true, tenant = true, role = true, node = true, parent = true, parent_hash = true, old_hash = true }
local INSTANTS = { created_at_ms = true, expires_at_ms = true, old_expires_at_ms = true }

local function hash_arg(value, field)
  check(#value == 64 and string.find(value, '^[0-9a-f]+$'), field, 'must be a SHA-256 in hexadecimal')
end

local function apikey_checked(key)
  for name, value in pairs(key) do
    check(TEXTS[name] or INSTANTS[name], 'json', 'has a field that a key has not')
    check(not TEXTS[name] or type(value) == 'string', name, 'must be text')
    check(not INSTANTS[name] or (type(value) == 'number' and value >= 0 and value <= 2 ^ 53 and value % 1 == 0), name,
      'must be milliseconds')
    if string.find(name, 'hash', 1, true) then hash_arg(value, name) end
  end
  check(key.hash, 'hash', 'is missing')
  check(key.created_at_ms, 'created_at_ms', 'is missing')
  check(ROLES[key.role or ''], 'role', 'must be submit, node, operator or admin')
  check(key.role ~= 'admin' or key.tenant == '*', 'tenant', 'must be * for an admin')
  if key.tenant ~= '*' then id_arg(key.tenant, 'tenant') end
  check((key.role == 'node') == (key.node ~= nil), 'node', 'must be named for the role node, and for no other')
  if key.node then id_arg(key.node, 'node') end
  if key.parent then apikey_arg(key.parent, 'parent') end
  check((key.parent == nil) == (key.parent_hash == nil), 'parent_hash', 'must come with parent')
  check((key.old_hash == nil) == (key.old_expires_at_ms == nil), 'old_hash', 'must come with old_expires_at_ms')
end

define('apikey_put', function(P, id, json, seen, by)
  apikey_arg(id, 'apikey')
  check(json and #json <= 1024, 'json', 'must be at most 1024 bytes')
  local key = decode_arg(cjson.decode, json, 'json')
  apikey_checked(key)
  by = by_arg(by)
  seen = seen ~= '' and seen or nil
  if seen then hash_arg(seen, 'seen') end

  local S = shard_open(P)
  configured_here(P)
  local held = redis.call('HGET', P .. ':apikeys', id)
  if held and not seen then return reply('exists') end
  if seen and not held then return reply('unknown') end
  if seen and cjson.decode(held).hash ~= seen then return reply('changed') end
  local gone = redis.call('ZRANGEBYSCORE', P .. ':apikeys_ending', '-inf', S.time_text, 'LIMIT', 0, PURGED_MAX)
  local count = redis.call('HLEN', P .. ':apikeys') - #gone
  check(held or count < KEYS_MAX, 'apikey', 'would be one more than ' .. KEYS_MAX .. ' keys')

  shard_write(S)
  if #gone > 0 then
    redis.call('HDEL', P .. ':apikeys', unpack(gone))
    redis.call('ZREM', P .. ':apikeys_ending', unpack(gone))
  end
  redis.call('HSET', P .. ':apikeys', id, json)
  if key.expires_at_ms then
    redis.call('ZADD', P .. ':apikeys_ending', number_text(key.expires_at_ms), id)
  else
    redis.call('ZREM', P .. ':apikeys_ending', id)
  end
  audited(S, by, 'apikey_stored', 'apikey', id, 'tenant', key.tenant, 'role', key.role)
  return reply('stored', apikeys_changed(S))
end, {}, 4)
