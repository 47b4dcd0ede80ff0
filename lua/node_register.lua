-- node_register: put a node into the fleet, ready at once, as a new incarnation that inherits nothing.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] node         id
-- ARGV[…] name value   endpoint, slots, capabilities; optional: labels, cpu, gpu, mem, cpu_max, gpu_max, mem_max, ttl_ms
-- Reply   registered <incarnation> "<pool> <pool> …"
-- Cost    O(capabilities + pools); 1,024 capabilities take about 1 ms. A shard has at most 100,000 nodes
local SHARD_NODES_MAX = 100000
local REGISTER_FIELDS = { endpoint = true, slots = true, capabilities = true, labels = true, cpu = true, gpu = true,
  mem = true, cpu_max = true, gpu_max = true, mem_max = true, ttl_ms = true }

define('node_register', function(P, id, ...)
  id_arg(id, 'node')
  local fields = field_args(REGISTER_FIELDS, ...)
  local endpoint = fields.endpoint
  check(endpoint and #endpoint <= 512 and string.find(endpoint, '^[%w][%w%-._~:/?#@!$&\'()*+,;=%%%[%]]*$'),
    'endpoint', 'must be 1 to 512 characters of a URL')
  integer_arg(fields.slots, 'slots', 1, 1000000)
  check(fields.capabilities and string.find(fields.capabilities, '%S'), 'capabilities', 'must be 1 to 1024 tokens')
  local ttl_ms = integer_arg(fields.ttl_ms or '3000', 'ttl_ms', 100, 3600000)
  local values = node_values(fields)

  local S, tags = shard_open(P), tags_of(P)
  if #tags > 1 and home_tag(tags, id) ~= tag_of(P) then
    check(false, 'node', 'belongs to the shard {' .. home_tag(tags, id) .. '}, see shard_find')
  end
  -- a shard that was emptied has no pools until it is told which shards there are: it would serve everyone
  if #tags == 0 and tag_of(P) ~= '0' then error({ moving = true }) end
  local old = node_read(S, id)
  check(old or redis.call('ZCARD', P .. ':nodes') < SHARD_NODES_MAX, 'node',
    'would be one more than ' .. SHARD_NODES_MAX .. ' in this shard')
  shard_write(S)
  local incarnation = unique_number(S, old and old.incarnation)
  if old then leases_orphan(S, old) end
  redis.call('DEL', node_key(P, id), inbox_key(P, id))
  redis.call('ZREM', P .. ':removed', id)
  -- what claims and heartbeats read stands in front: a small hash is searched from there
  redis.call('HSET', node_key(P, id), 'structure', 0, 'config_version', '', 'slots', values.slots,
    'incarnation', incarnation, 'state', 'ready', 'heartbeat_at_ms', S.time_text,
    'cpu', values.cpu or 0, 'gpu', values.gpu or 0, 'mem', values.mem or 0, 'ttl_ms', ttl_ms, 'share', 1,
    'endpoint', endpoint, 'pools', '', 'capabilities', values.capabilities, 'labels', values.labels or '',
    'registered_at_ms', S.time_text)
  -- a limit that the node does not name is the fleet's, also when that changes later
  for _, limit in ipairs({ 'cpu_max', 'gpu_max', 'mem_max' }) do
    if values[limit] then redis.call('HSET', node_key(P, id), limit, values[limit]) end
  end
  redis.call('ZREM', P .. ':quarantined', id)
  redis.call('ZREM', P .. ':lost', id)
  redis.call('ZADD', P .. ':nodes', number_text(S.now + ttl_ms), id)

  index_move(P .. ':cap:', id, token_set(old and old.capabilities), token_set(values.capabilities))
  local node = node_read(S, id)
  node.pools = old and old.pools
  node_place(S, node)
  node_settle(S, node)
  structure_changed(S, id)
  event(S, 'node_registered', 'node', id, 'incarnation', incarnation)
  return reply('registered', incarnation, node.pools)
end)
