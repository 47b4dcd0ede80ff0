-- node_heartbeat: the node lives and this is its load. Touches no lease; reaps a little for the whole shard.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] node         id
-- ARGV[2] incarnation  as returned by node_register
-- ARGV[…] name value   optional: cpu, gpu, mem, slots, capabilities, labels, running "<job> <fence> …" (at most 1,000)
-- Reply   ok <ttl_ms> [cancel "<job> <fence>" | drain <ms> | refused memory_full]… | unknown (register again)
--         | fenced (another process: stop). Over maxmemory a longer offer is refused: the node offers what it did before
-- Cost    O(1); O(capabilities + pools) where these changed; O(running); once per 100 ms and shard a reaping turn of 16
local HEARTBEAT_FIELDS = { cpu = true, gpu = true, mem = true, slots = true, capabilities = true, labels = true, running = true }

-- stray_cancels: jobs that the node runs but Redis does not know under that fence
local function stray_cancels(S, node_id, running, answer)
  for i = 1, #running, 2 do
    local job = job_read(S, running[i])
    local known = job and job.fence == running[i + 1] and job.node == node_id and job_leased(job)
    if not known then answer[#answer + 1], answer[#answer + 2] = 'cancel', running[i] .. ' ' .. running[i + 1] end
  end
end

-- node_report: write what it reports, the indexes along with it. Returns whether its limits are or may be crossed anew.
local function node_report(S, node, values)
  local key, structure, over = node_key(S.P, node.id), false, node_over(S, node)
  if values.capabilities and values.capabilities ~= node.capabilities then
    index_move(S.P .. ':cap:', node.id, token_set(node.capabilities), token_set(values.capabilities))
    structure = true
  end
  if (values.labels or node.labels) ~= node.labels or (values.slots or node.slots) ~= node.slots then structure = true end
  local written = { 'heartbeat_at_ms', S.time_text }
  for name, value in pairs(values) do
    node[name] = value
    written[#written + 1], written[#written + 2] = name, value
  end
  redis.call('HSET', key, unpack(written))
  redis.call('ZADD', S.P .. ':nodes', number_text(S.now + node.ttl_ms), node.id)
  local stale = node.config_version ~= S.config_version
  if structure or stale then structure = node_place(S, node) or structure end
  if structure then structure_changed(S, node.id) end
  node.over = node_over(S, node)
  return not structure and (stale or node.over ~= over)
end

local function beat(S, id, incarnation, ...)
  local fields = field_args(HEARTBEAT_FIELDS, ...)
  local running = fields.running and running_arg(fields.running)
  fields.running = nil
  local values, node = node_values(fields), node_read(S, id)
  if not node or node.state == 'lost' then return reply('unknown') end
  if node.incarnation ~= incarnation then return reply('fenced') end
  shard_write(S)
  local refused = (values.capabilities or values.labels) and offer_grows(node, values) and memory_full()
  if refused then values.capabilities, values.labels = nil, nil end
  local news = node_report(S, node, values)
  if node.quarantined_until_ms and tonumber(node.quarantined_until_ms) <= S.now then node_release(S, node) end
  node_settle(S, node, news)
  local used = node_used(S, id)
  share_report(S, node, used)
  local answer = { 'ok', node.ttl_ms }
  if running then stray_cancels(S, id, running, answer) end
  if used > 0 then tell_endings(S.P, id, answer) end
  if node.state == 'draining' then
    answer[#answer + 1], answer[#answer + 2] = 'drain', math.max((tonumber(node.drain_until_ms) or 0) - S.now, 0)
  end
  if refused then answer[#answer + 1], answer[#answer + 2] = 'refused', 'memory_full' end
  return answer
end

define('node_heartbeat', function(P, id, incarnation, ...)
  id_arg(id, 'node')
  integer_arg(incarnation, 'incarnation', 1, 9007199254740992)
  local S = shard_open(P)
  local answer = calm_beat(S, id, incarnation, { ... }) or beat(S, id, incarnation, ...)
  if answer[1] == 'ok' and S.now - S.reaped_ms >= 100 then reap_due(S, 16) end
  return answer
end, { 'allow-oom' })
