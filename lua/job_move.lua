-- job_move: note that a job is to be in another shard, before that takes it; of several who try one wins.
--
-- KEYS[1] P            shard prefix, fleet:{0}: the one that the job's id leads to, or where the job waits
-- ARGV[1] job          id
-- ARGV[2] tag          of the other shard
-- ARGV[3] hold         the token under which that shard holds a slot for it
-- ARGV[4] tenant       with a digest: a job that no shard has yet; without: one that waits here
-- ARGV[5] digest       of its content
-- Reply   moved <record: msgpack, what a claim of it needs> | elsewhere <tag> <hold> | here | unknown
-- Cost    O(log waiting)
define('job_move', function(P, id, tag, hold, tenant, digest)
  job_arg(id)
  id_arg(tag, 'tag')
  id_arg(hold, 'hold')
  check((tenant == nil) == (digest == nil), 'digest', 'must be given with tenant')
  if tenant then
    id_arg(tenant, 'tenant')
    check(#digest <= 128 and string.find(digest, '^%S+$'), 'digest', 'must be at most 128 letters')
  end

  local S = shard_open(P)
  local job = job_read(S, id)
  if not job then
    if not tenant then return reply('unknown') end
    shard_write(S)
    moved_write(S, id, tag, hold, 'tenant', tenant, 'digest', digest)
    return reply('moved', '')
  end
  local at = moved_read(S, id)
  if at.state == 'moved' then return reply('elsewhere', at.shard, at.hold) end
  -- while an attempt of it may still be at work here, this shard has to keep it
  if tenant or job.state ~= 'pending' or job.lingering then return reply('here') end
  shard_write(S)
  local score = tonumber(redis.call('ZSCORE', queue_key(S, job.queue), id))
  local until_ms = redis.call('ZSCORE', P .. ':pending', id)
  queue_leave(S, id, job.queue)
  moved_write(S, id, tag, hold, 'queued_ms', number_text(score % PRIORITY_SPAN), 'waits_until_ms', until_ms,
    'fence', job.fence or unique_number(S))
  return reply('moved', moved_record(S, id))
end, {}, 5)
