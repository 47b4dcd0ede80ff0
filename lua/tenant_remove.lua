-- tenant_remove: take a tenant's row out; the row * is its own from now on, where there is one.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[1] tenant       id, or *
-- ARGV[2] by           optional: who takes it out, for the audit
-- Reply   removed | unknown
-- Cost    O(1), and one bounded turn for the jobs that wait
define('tenant_remove', function(P, tenant, by)
  tenant_arg(tenant)
  by = by_arg(by)

  local S = shard_open(P)
  configured_here(P)
  if redis.call('HEXISTS', P .. ':tenants', tenant) == 0 then return reply('unknown') end
  shard_write(S)
  redis.call('HDEL', P .. ':tenants', tenant)
  tenants_changed(S)
  acted(S, by, 'tenant_removed', 'tenant', tenant)
  serve_roomy(S)
  return reply('removed')
end, { 'allow-oom' }, 2)
