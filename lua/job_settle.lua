-- job_settle: the other shard has the job: here stays where it is, for as long as it is there and an hour longer.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] job          id
-- ARGV[2] hold         the token of the move
-- ARGV[3] lives        1: the job is there; 0: it has ended
-- Reply   settled | elsewhere <tag> <hold> | here | unknown
-- Cost    O(fields)
define('job_settle', function(P, id, hold, lives)
  job_arg(id)
  id_arg(hold, 'hold')
  check(lives == '0' or lives == '1', 'lives', 'must be 0 or 1')

  local S = shard_open(P)
  local at = moved_read(S, id)
  if not at.state then return reply('unknown') end
  if at.state ~= 'moved' then return reply('here') end
  if at.hold ~= hold then return reply('elsewhere', at.shard, at.hold) end
  shard_write(S)
  if not at.settled then
    local held = redis.call('HMGET', job_key(P, id), 'tenant', 'digest', 'fence')
    redis.call('DEL', job_key(P, id))
    redis.call('HSET', job_key(P, id), 'state', 'moved', 'shard', at.shard, 'hold', hold, 'settled', 1, 'tenant', held[1])
    if held[2] then redis.call('HSET', job_key(P, id), 'digest', held[2]) end
    -- tells a move back here that came to nothing from one that the job has behind it
    if held[3] then redis.call('HSET', job_key(P, id), 'fence', held[3]) end
    event(S, 'job_moved', 'job', id, 'tenant', held[1], 'shard', at.shard)
  end
  if lives == '1' then
    redis.call('ZADD', P .. ':moved', number_text(S.now + MOVE_LOOK_MS), id)
  else
    redis.call('ZREM', P .. ':moved', id)
    redis.call('PEXPIRE', job_key(P, id), JOB_KEPT_MS)
  end
  return reply('settled')
end, { 'allow-oom' }, 3)
