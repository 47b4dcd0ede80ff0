-- explain: why a demand is placed or not: its class, a verdict for each pool and for each node; changes nothing.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] demand       JSON: requires [token] or any_of [[token]]; optional: tenant (default), pool, fallback (true),
--                      exclude [node], languages [language], all (true: nodes that are in no pool of the tenant, too)
-- ARGV[2] cursor       optional, what the last page answered; 0 at first
-- Reply   verdict placeable|quota|overloaded|unavailable|impossible|denied <cursor> [<reason> <count>…]
--           [[<pool> <class> <eligible> <reason> <count>…]…] [[<node> "<pool> …" eligible|<reason> <condition>…]…]
--           [<nearest node> <condition>…]
--         of one page of nodes; cursor 0: the last one. The class of the whole is the first in the order above that a
--         page has. A condition is a reason with what is missing or over its limit behind it.
-- Cost    about 100 nodes a page, 10 µs each and 1 µs for each of its pools; more where its pools are yet to be computed
local WANTED_FIELDS = { requires = true, any_of = true, tenant = true, pool = true, fallback = true, exclude = true,
  languages = true, all = true }

local function wanted_arg(text)
  check(text and #text <= 300000, 'demand', 'must be JSON of at most 300000 bytes')
  local wanted = decode_arg(cjson.decode, text, 'demand')
  fields_checked(wanted, '', WANTED_FIELDS, 'demand')
  check((wanted.requires == nil) ~= (wanted.any_of == nil), 'demand', 'must have requires or any_of, one of the two')
  wanted.any_of = any_of_checked(left_out(wanted.any_of, { wanted.requires }))
  wanted.tenant = id_arg(wanted.tenant == nil and 'default' or wanted.tenant, 'tenant')
  wanted.pool = wanted.pool == nil and '' or id_arg(wanted.pool, 'pool')
  for _, flag in ipairs({ 'fallback', 'all' }) do
    check(wanted[flag] == nil or type(wanted[flag]) == 'boolean', flag, 'must be true or false')
  end
  local excluded = texts_checked(left_out(wanted.exclude, {}), 'exclude', 64, ID_PATTERN, 64)
  local languages = texts_checked(left_out(wanted.languages, {}), 'languages', 8, '^%w[%w-]*$', 64)
  wanted.excluded = word_set(table.concat(excluded, ' '))
  table.sort(languages)
  wanted.languages = table.concat(languages, ' ')
  return wanted
end

-- node_told: one node's line of the page, counted; nil where it is not for this tenant to see
local function node_told(S, page, wanted, id, deadline_ms)
  local node = node_read(S, id)
  if not node then return nil end
  if deadline_ms <= S.now then node.state = 'lost' end
  if node.config_version ~= S.config_version then node.pools = node_pools(S, node) end
  local conditions, cost, seen = node_conditions(S, node, wanted, page.order)
  if not seen and not wanted.all then return nil end
  local pools, member = {}, word_set(node.pools)
  count_node(page.whole, conditions)
  for _, name in ipairs(page.order) do
    if member[name] then
      pools[#pools + 1] = name
      count_node(page.pools[name], conditions)
    end
  end
  if #conditions > 0 and nearer(page, cost, conditions, id) then
    page.near, page.near_cost = { id, unpack(conditions) }, cost
  end
  return { id, table.concat(pools, ' '), reason_of(conditions[1]) or 'eligible', unpack(conditions) }
end

define('explain', function(P, demand, cursor)
  local wanted = wanted_arg(demand)
  local is_cursor = not cursor or (#cursor <= 20 and string.find(cursor, '^%d+$')
    and (#cursor < 20 or cursor < '18446744073709551616'))
  check(is_cursor, 'cursor', 'must be one that a page answered')

  local S = shard_open(P)
  local order = pool_order(S, wanted.tenant, wanted.pool, wanted.fallback ~= false, wanted.languages)
  if not order then return reply('verdict', 'denied', '0', {}, { { wanted.pool, 'denied', 0 } }, {}, {}) end
  local page, nodes, pools = { order = order, whole = counts_new(), pools = {} }, {}, {}
  for _, name in ipairs(order) do page.pools[name] = counts_new() end
  local scanned, ids = redis.call('ZSCAN', P .. ':nodes', cursor or '0', 'COUNT', 100), {}
  for i = 1, #scanned[2], 2 do ids[#ids + 1] = scanned[2][i] end
  wanted.offering, wanted.full = offering_nodes(S, wanted.any_of, ids), tenant_full(S, wanted.tenant)
  for i = 1, #scanned[2], 2 do
    nodes[#nodes + 1] = node_told(S, page, wanted, scanned[2][i], tonumber(scanned[2][i + 1]))
  end
  for i, name in ipairs(order) do
    local counts = page.pools[name]
    pools[i] = counts_told(counts, { name, counts_class(counts, wanted.full), counts.eligible })
  end
  return reply('verdict', counts_class(page.whole, wanted.full), scanned[1], counts_told(page.whole, {}), pools, nodes,
    page.near or {})
end, { 'no-writes' }, 2)
