-- mirror_read: what changed since a version, a page at a time; from version 0 it is the whole shard.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] cursor       the version that the last page reached
-- ARGV[2] complete     the version at which the caller last knew everything (the cursor, but between pages)
-- ARGV[3] config       the config_version whose pools the caller holds, or ''
-- ARGV[4] max          optional, nodes in this page (100); at most 200
-- ARGV[5] truths       optional, 1: also the shard in numbers
-- ARGV[6] tenants      optional, the tenants_version whose quotas the caller holds
-- Reply   mirror <msgpack: {epoch, floor, version, structure_version, config_version, now_ms, nodes, pools, history}>
--           <demands that wait> <config_version of the first shard that the pools are a copy of>
--           <tenants_version> [<tenant> <quotas as JSON>…] <tenants_version of the first shard that they are a copy of>
--           [<msgpack: {name: number}>, with truths]
--         quotas: none where the caller holds them
--         nodes: [id, version, state, slots, used, over, quarantined, [structure, capabilities, pools]],
--         state '' for a removed one, the inner list only where it is newer than complete;
--         pools: false where the caller holds them, else [name, json, …]
--         history: which history of the data this is; versions of two histories say nothing of each other
--         truths: revision, leases, waiting_jobs, waiting_demands, oldest_ms (since the job that has waited longest
--         waits), paused (1 while nodes are not reaped), reaped_nodes, reaped_leases, reaped_jobs (all there ever were)
-- Cost    O(max), 5 µs a node, and 15 where the fleet is too large for the processor's caches; one INFO; with truths two
--         looks for each demand that waits, and one more for each further priority in its queue; at most about 390
local PAGE_BYTES = 65536

local function mirror_node(S, id, version, complete)
  local key = node_key(S.P, id)
  local held = redis.call('HMGET', key, 'structure', 'slots', 'state', 'cpu', 'gpu', 'mem', 'capabilities', 'pools')
  if not held[1] then return { id, version, '' } end
  local node = { cpu = held[4], gpu = held[5], mem = held[6] }
  if redis.call('HLEN', key) ~= PLAIN_FIELDS then node = node_read(S, id) end
  local entry = { id, version, held[3], tonumber(held[2]), node_used(S, id), node_over(S, node), node_quarantined(node) }
  if tonumber(held[1]) > complete then entry[8] = { held[1], held[7], held[8] } end
  return entry
end

-- history: Redis's own name for it, new with each promotion and each restart. A server that forgot what it had told, and
-- then went on past the version that a mirror had reached, is told apart by nothing else.
local function history() return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or '' end

define('mirror_read', function(P, cursor, complete, config, max, truths, tenants)
  local since = integer_arg(cursor, 'cursor', 0, 9007199254740992)
  local known = integer_arg(complete, 'complete', 0, since)
  local limit = integer_arg(max or '100', 'max', 1, 200)

  check(config and #config <= 16, 'config', 'must be a config_version')
  local whole = truths and integer_arg(truths, 'truths', 0, 1) == 1
  check(not tenants or #tenants <= 16, 'tenants', 'must be a tenants_version')

  local S = shard_open(P)
  local changed = redis.call('ZRANGEBYSCORE', P .. ':changed', '(' .. number_text(since), '+inf', 'WITHSCORES',
    'LIMIT', 0, limit)
  local nodes = {}
  local bytes = 0
  for i = 1, #changed, 2 do
    local entry = mirror_node(S, changed[i], tonumber(changed[i + 1]), known)
    nodes[#nodes + 1] = entry
    bytes = bytes + (entry[8] and #entry[8][2] or 0)
    if bytes > PAGE_BYTES then break end
  end
  local meta = redis.call('HMGET', P, 'floor', 'version', 'config_source', 'tenants_source')
  return reply('mirror', cmsgpack.pack({
    S.epoch or '', tonumber(meta[1]) or 0, tonumber(meta[2]) or 0,
    tonumber(S.structure_version), tonumber(S.config_version), S.now, nodes,
    config ~= S.config_version and redis.call('HGETALL', P .. ':pools'), history(),
  }), redis.call('HLEN', P .. ':waiting'), tonumber(meta[3]) or 0,
    tonumber(S.tenants_version), tenants == S.tenants_version and {} or redis.call('HGETALL', P .. ':tenants'),
    tonumber(meta[4]) or 0, whole and cmsgpack.pack(truths_of(S)) or nil)
end, { 'no-writes' }, 6)
