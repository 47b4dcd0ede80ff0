-- job_return: a move came to nothing, for ever: the job waits here again, or where only its caller had it is forgotten.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] job          id
-- ARGV[2] hold         the token of the move that came to nothing
-- Reply   returned | elsewhere <tag> <hold> | here | unknown
-- Cost    O(log waiting)
define('job_return', function(P, id, hold)
  job_arg(id)
  id_arg(hold, 'hold')

  local S = shard_open(P)
  local at = moved_read(S, id)
  if not at.state then return reply('unknown') end
  if at.state ~= 'moved' then return reply('here') end
  if at.hold ~= hold then return reply('elsewhere', at.shard, at.hold) end
  shard_write(S)
  redis.call('ZREM', P .. ':moved', id)
  if not at.demand then
    redis.call('DEL', job_key(P, id))
    return reply('returned')
  end
  local job = job_read(S, id)
  local held = redis.call('HMGET', job_key(P, id), 'queued_ms', 'waits_until_ms')
  local claim = claim_again(S, job)
  claim.queued_ms = tonumber(held[1])
  redis.call('HDEL', job_key(P, id), 'shard', 'hold', 'queued_ms', 'waits_until_ms')
  redis.call('HSET', job_key(P, id), 'state', 'pending')
  local limit = queue_join(S, claim, math.max(tonumber(held[2]) - S.now, 1))
  if limit then job_end(S, job, 'failed', 'no_room_to_wait', '') end
  return reply('returned')
end, {}, 2)
