-- job_finish: the work is over, or is handed back; the slot is free. Accepted from claimed as well as running.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] job          id
-- ARGV[2] fence        as delivered
-- ARGV[3] outcome      succeeded | failed | released
-- ARGV[4] result       optional, at most 262,144 bytes
--                      over maxmemory one of more than 1,024 bytes is dropped, and result_dropped says so
-- Reply   finished | duplicate | fenced | unknown
-- Cost    O(log leases); a result of more than 1,024 bytes costs one INFO
local OUTCOMES = { succeeded = true, failed = true, released = true }

define('job_finish', function(P, id, fence, outcome, result)
  job_arg(id)
  integer_arg(fence, 'fence', 1, 9007199254740992)
  check(outcome and OUTCOMES[outcome], 'outcome', 'must be succeeded, failed or released')
  check(not result or #result <= RESULT_MAX, 'result', 'must be at most 262144 bytes')

  local S = shard_open(P)
  local job = job_read(S, id)
  if not job then return reply('unknown') end
  if job.fence == fence and job_leased(job) then
    shard_write(S)
    if result and #result > 1024 and memory_full() then
      result = ''
      redis.call('HSET', job_key(P, id), 'result_dropped', 'memory_full')
    end
    -- before its slot is free, or a waiting job would get it
    if outcome == 'failed' then node_blame(S, job.node, job.incarnation, 'handler_failed') end
    if outcome == 'succeeded' then node_praise(S, job.node, job.incarnation) end
    redis.call('ZREM', P .. ':leases', id)
    inbox_forget(S, job)
    lease_free(S, job.node, id, job.tenant)
    if outcome == 'released' then
      attempt_end(S, job, 'released')
    elseif outcome == 'failed' and redis.call('HGET', job_key(P, id), 'retry_failed') == '1' then
      attempt_end(S, job, 'handler_failed', result)
    else
      job_end(S, job, outcome, outcome == 'failed' and 'handler_failed' or '', result or '')
    end
    return reply('finished')
  end
  ending_confirm(S, job, fence)
  if job.fence ~= fence or job.state == 'pending' or job.state == 'moved' then return reply('fenced') end
  return reply('duplicate')
end, { 'allow-oom' }, 4)
