-- moves_due: moves that may have been left halfway, and jobs in other shards to look after; the caller's for a while.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] max          1 to 100
-- Reply   due <msgpack: [job, tag, hold, settled, record]…>, as job_move gives the record
-- Cost    O(max), and the payloads of those that are not settled, at most about 1 MiB
define('moves_due', function(P, max)
  local limit = integer_arg(max, 'max', 1, 100)

  local S = shard_open(P)
  local due, told, bytes = redis.call('ZRANGEBYSCORE', P .. ':moved', '-inf', number_text(S.now), 'LIMIT', 0, limit), {}, 0
  if #due > 0 then shard_write(S) end
  for _, id in ipairs(due) do
    if bytes > 1048576 then break end
    local at = moved_read(S, id)
    if at.state ~= 'moved' then
      redis.call('ZREM', P .. ':moved', id)
    else
      redis.call('ZADD', P .. ':moved', number_text(S.now + MOVE_RETRY_MS), id)
      local record = moved_record(S, id)
      bytes = bytes + #record
      told[#told + 1] = { id, at.shard, at.hold, at.settled == '1', record }
    end
  end
  return reply('due', cmsgpack.pack(told))
end, { 'allow-oom' }, 1)
