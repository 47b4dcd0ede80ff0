-- job_start: the node (or the caller of a direct job) begins the work and receives its payload. Safe to repeat.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] job          id
-- ARGV[2] fence        as delivered
-- Reply   running <remaining_ms> <payload> <attempt> [<traceparent>] | fenced | unknown
-- Cost    O(log leases)
define('job_start', function(P, id, fence)
  job_arg(id)
  integer_arg(fence, 'fence', 1, 9007199254740992)

  local S = shard_open(P)
  local job = job_read(S, id)
  if not job then return reply('unknown') end
  if job.fence ~= fence or not job_leased(job) or job_orphaned(S, job) then return reply('fenced') end
  local key, timeout_ms = job_key(P, id), tonumber(job.timeout_ms) or TIMEOUT_MS
  local remaining_ms = timeout_ms
  if job.state == 'running' then
    remaining_ms = math.max(tonumber(job.started_ms) + timeout_ms - S.now, 0)
  else
    shard_write(S)
    inbox_forget(S, job)
    redis.call('HDEL', key, 'entry')
    redis.call('HSET', key, 'state', 'running', 'started_at_ms', S.time_text, 'started_ms', number_text(S.now),
      'lease_expires_at_ms', number_text(S.time_ms + timeout_ms))
    lease_put(S, job.node, id, number_text(S.now + timeout_ms))
  end
  local held = redis.call('HMGET', key, 'payload', 'traceparent')
  return reply('running', remaining_ms, held[1] or '', tonumber(job.attempt), held[2] or nil)
end, { 'allow-oom' }, 2)
