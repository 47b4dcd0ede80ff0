-- pools_apply: replace the whole configuration in one step, if it is still the one that the caller has seen.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] seen         the config_version that the caller has seen; 0 where nothing is configured
-- ARGV[2] json         {"pools": {name: as in pool_put}, "limits": {cpu_max, gpu_max, mem_max} in percent for nodes
--                      without a limit of their own (85), "language_pools": {max (50), tenants, fallback, strategy,
--                      priority, d}, "weights": {tenant: 1 to 100, its turns in the queues (1)}}; what is left out of limits has its default, and without language_pools there
--                      are none
-- ARGV[3] source       optional: this is a copy of the first shard's configuration of that version; seen does not count
-- ARGV[4] by           optional: who applies it, for the audit; source may be '' then
-- Reply   applied <config_version> | changed <config_version>
-- Cost    O(pools); at most 200 pools and 1 MiB, of a copy 2 MiB
local COPY_BYTES_MAX = 2 * 1048576
local CONFIG_FIELDS = { pools = true, limits = true, language_pools = true, weights = true }
local LIMIT_FIELDS = { cpu_max = true, gpu_max = true, mem_max = true }
local TEMPLATE_FIELDS = { max = true, tenants = true, fallback = true, strategy = true, priority = true, d = true }

-- config_arg: pools as name, text, …; the pools by name; limits; the template of language pools or nil
local function config_arg(json, most)
  check(json and #json <= most, 'json', 'must be at most ' .. most .. ' bytes')
  local config = decode_arg(cjson.decode, json, 'json')
  fields_checked(config, '', CONFIG_FIELDS)
  local pools, limits, template, stored = left_out(config.pools, {}), left_out(config.limits, {}),
    config.language_pools, {}
  check(type(pools) == 'table', 'pools', 'must be an object')
  for name, pool in pairs(pools) do
    id_arg(type(name) == 'string' and name, 'pools')
    pool_checked(pool, 'pools.' .. name .. '.')
    stored[#stored + 1] = name
    stored[#stored + 1] = stored_checked(pool, 'pools.' .. name)
    check(#stored <= 2 * POOLS_MAX, 'pools', 'must be at most ' .. POOLS_MAX)
  end
  fallbacks_checked(pools, function(name) return 'pools.' .. name .. '.' end)
  fields_checked(limits, 'limits.', LIMIT_FIELDS)
  for name, value in pairs(limits) do
    check(type(value) == 'number' and value >= 0 and value <= 100, 'limits.' .. name, 'must be a number from 0 to 100')
  end
  local weights = weights_text(left_out(config.weights, {}))
  if template ~= nil then
    fields_checked(template, 'language_pools.', TEMPLATE_FIELDS)
    whole_checked(template.max, 'language_pools.max', 1, LANGUAGE_POOLS_MAX)
    choice_checked(template, 'language_pools.')
    for _, name in ipairs(template.fallback or {}) do
      check(pools[name], 'language_pools.fallback', 'names the unknown pool ' .. name)
    end
  end
  return stored, pools, limits, template, weights
end

define('pools_apply', function(P, seen, json, source, by)
  integer_arg(seen, 'seen', 0, 9007199254740992)
  by, source = by_arg(by), source ~= '' and source or nil
  if source then integer_arg(source, 'source', 1, 9007199254740992) end
  -- pools that were put one by one may be more than a file may have, and all of them are to be copied
  local stored, pools, limits, template, weights = config_arg(json, source and COPY_BYTES_MAX or 1048576)

  local S = shard_open(P)
  if apply_late(S, 'config', seen, source) then return reply('changed', S.config_version) end
  shard_write(S)
  if source then redis.call('HSET', P, 'config_source', source) end
  local held = pool_config(S).pools
  redis.call('DEL', P .. ':pools')
  language_pools_kept(S, held, pools, template)
  for i = 1, #stored, 2 do redis.call('HSET', P .. ':pools', stored[i], stored[i + 1]) end
  redis.call('HDEL', P, 'cpu_max', 'gpu_max', 'mem_max', 'language_pools', 'weights')
  for name, value in pairs(limits) do redis.call('HSET', P, name, string.format('%.14g', value)) end
  if template then redis.call('HSET', P, 'language_pools', template_text(template)) end
  if weights then redis.call('HSET', P, 'weights', weights) end
  config_changed(S)
  acted(S, by, 'pools_applied', 'pools', #stored / 2)
  return reply('applied', S.config_version)
end, {}, 4)
