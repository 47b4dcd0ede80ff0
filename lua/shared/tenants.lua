-- tenants: what a tenant may have at most, the part of it that this shard may give, and the leases that the tenant has.
-- Every slot that a tenant occupies stands among its leases under the job's id; one that is over but that its node has
-- not confirmed under "<job> <fence>"; one that is held for a job of another shard under the hold's token.

local QUOTAS_MAX = 1000
-- In the order in which they are stored, each with the least and the most that it may be.
local QUOTAS = { { 'concurrent_jobs', 0, 1000000 }, { 'waiting_jobs', 0, 1000000 }, { 'requests_per_s', 1, 1000000 },
  { 'payload_bytes', 0, 262144 } }
local QUOTA_FIELDS = { concurrent_jobs = true, waiting_jobs = true, requests_per_s = true, payload_bytes = true }
local NO_QUOTA = {}

-- Rows that were read, by shard, epoch and version: also where several shards are called in turn.
local quota_cache = { count = 0, rows = {} }

-- Defined in serving.lua.
local tenant_serve

local function tenant_leases_key(S, tenant) return S.P .. ':tenant:' .. tenant .. ':leases' end

-- tenant_arg: a tenant, or * for all that have no row of their own
local function tenant_arg(value)
  if value == '*' then return value end
  return id_arg(value, 'tenant')
end

-- quota_text: one row, checked, as JSON in one fixed form
local function quota_text(row, at)
  fields_checked(row, at, QUOTA_FIELDS)
  local parts = {}
  for _, quota in ipairs(QUOTAS) do
    local name = quota[1]
    whole_checked(row[name], at .. name, quota[2], quota[3])
    if row[name] then parts[#parts + 1] = '"' .. name .. '":' .. number_text(row[name]) end
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

-- share_of: this shard's part of a number. The parts of all shards add up to it, so it is never exceeded; what cannot be
-- divided goes to other shards for each tenant.
local function share_of(S, tags, tenant, whole)
  local count, at = math.max(#tags, 1), 0
  for i, tag in ipairs(tags) do
    if tag == tag_of(S.P) then at = i - 1 end
  end
  local turn = (at - tonumber(string.sub(redis.sha1hex(tenant), 1, 8), 16)) % count
  return math.floor(whole / count) + (turn < whole % count and 1 or 0)
end

-- tenant_quota: the numbers that this shard enforces for the tenant; those that are not there have no limit
local function tenant_quota(S, tenant)
  if S.tenants_version == '0' then return NO_QUOTA end
  local name = S.P .. (S.epoch or '') .. ':' .. S.tenants_version .. ' ' .. tenant
  local quota = quota_cache.rows[name]
  if quota then return quota end
  local held = redis.call('HMGET', S.P .. ':tenants', tenant, '*')
  local row = cjson.decode(held[1] or held[2] or '{}')
  quota = NO_QUOTA
  if row.concurrent_jobs or row.waiting_jobs then
    local tags = tags_of(S.P)
    quota = { concurrent_jobs = row.concurrent_jobs and share_of(S, tags, tenant, row.concurrent_jobs),
      waiting_jobs = row.waiting_jobs and share_of(S, tags, tenant, row.waiting_jobs), divided = #tags > 1 }
  end
  -- tenants come from outside: the memory of their rows is bounded
  if quota_cache.count >= 1000 then quota_cache = { count = 0, rows = {} } end
  quota_cache.rows[name], quota_cache.count = quota, quota_cache.count + 1
  return quota
end

-- tenant_most: how much of a quota this shard may give now: its part, with what it took of others or without what it
-- gave them; nil where there is no limit
local function tenant_most(S, tenant, name)
  local quota = tenant_quota(S, tenant)
  if not quota[name] or not quota.divided then return quota[name] end
  return quota[name] + (tonumber(redis.call('HGET', S.P .. ':lent', name .. ' ' .. tenant) or nil) or 0)
end

-- tenant_full: whether the tenant has all the leases that it may have in this shard
local function tenant_full(S, tenant)
  local most = tenant_most(S, tenant, 'concurrent_jobs')
  return most ~= nil and redis.call('ZCARD', tenant_leases_key(S, tenant)) >= most
end

-- tenant_took, tenant_left: one lease more or less; the score is a fence, or the time in its place.
local function tenant_took(S, tenant, member, fence)
  redis.call('ZADD', tenant_leases_key(S, tenant), fence, member)
end

local function tenant_left(S, tenant, member) redis.call('ZREM', tenant_leases_key(S, tenant), member) end

-- tenants_changed: from here on every row is read anew, and each shard has its part; as with pools the number never
-- comes twice.
local function tenants_changed(S)
  S.tenants_version = unique_number(S, S.tenants_version)
  redis.call('HSET', S.P, 'tenants_version', S.tenants_version)
  redis.call('DEL', S.P .. ':lent')
end
