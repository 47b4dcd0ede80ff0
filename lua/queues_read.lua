-- queues_read: the jobs that wait in this shard, for the one replica that looks for slots elsewhere for a moment.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] reader       who asks; for 300 ms only the same one is answered again
-- Reply   queues <msgpack: [tenant, wanted: JSON with any_of, pool, fallback, languages, exclude, jobs, [first 16 jobs]]…>
--         | busy
-- Cost    O(queues), at most 128 of them a call, from a turning start
local TURN_MS, QUEUES_MAX = 300, 128

define('queues_read', function(P, reader)
  id_arg(reader, 'reader')

  local S = shard_open(P)
  local key = P .. ':mover'
  if redis.call('EXISTS', P .. ':waiting') == 0 then return reply('queues', cmsgpack.pack({})) end
  local other = redis.call('GET', key)
  if other and other ~= reader then return reply('busy') end
  shard_write(S)
  redis.call('SET', key, reader, 'PX', TURN_MS)
  local waiting, told = redis.call('HGETALL', P .. ':waiting'), {}
  local count = #waiting / 2
  for turn = 1, math.min(count, QUEUES_MAX) do
    local i = 2 * ((S.time_us + turn) % count) + 1
    local queue = queue_key(S, waiting[i])
    told[#told + 1] = { string.match(waiting[i], ':(.*)$'), waiting[i + 1], redis.call('ZCARD', queue),
      redis.call('ZRANGE', queue, 0, 15) }
  end
  return reply('queues', cmsgpack.pack(told))
end, { 'allow-oom' }, 1)
