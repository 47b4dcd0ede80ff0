-- job_cancel: end a job that has not ended. A node already at work is told; its slot is free once it confirms.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] job          id
-- ARGV[2] by           optional: the operator who cancels it, for the audit
-- Reply   cancelled | duplicate | unknown | moved <tag> (ask that shard)
-- Cost    O(log leases)
define('job_cancel', function(P, id, by)
  job_arg(id)
  by = by_arg(by)

  local S = shard_open(P)
  local job = job_read(S, id)
  if not job then return reply('unknown') end
  if job.state == 'moved' then return reply('moved', redis.call('HGET', job_key(P, id), 'shard')) end
  local waits = job.state == 'pending'
  if not waits and not job_leased(job) then return reply('duplicate') end
  shard_write(S)
  if waits then queue_leave(S, id, job.queue) else lease_end(S, job) end
  job_end(S, job, 'cancelled', 'cancelled', '')
  audited(S, by, 'job_cancelled', 'job', id, 'tenant', job.tenant)
  return reply('cancelled')
end, { 'allow-oom' }, 2)
