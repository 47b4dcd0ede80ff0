-- queues_read: the jobs that wait in this shard, for the one replica that looks for slots elsewhere for a moment.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] reader       who asks; for 300 ms only the same one is answered again
-- Reply   queues <msgpack: [tenant, wanted: JSON with any_of, pool, fallback, languages, exclude, jobs, [first 16 jobs]]…>
--         | busy
-- Cost    O(queues), at most 256 of them
local TURN_MS = 300

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
  for i = 1, #waiting, 2 do
    local queue = queue_key(S, waiting[i])
    told[#told + 1] = { string.match(waiting[i], ':(.*)$'), waiting[i + 1], redis.call('ZCARD', queue),
      redis.call('ZRANGE', queue, 0, 15) }
  end
  return reply('queues', cmsgpack.pack(told))
end, { 'allow-oom' }, 1)
