-- shard: its keys, its meta and its clock, and what every change of it goes through.

local function node_key(P, node) return P .. ':node:' .. node end
local function leases_key(P, node) return P .. ':node:' .. node .. ':leases' end
local function inbox_key(P, node) return P .. ':node:' .. node .. ':inbox' end
local function ending_key(P, node) return P .. ':node:' .. node .. ':ending' end
local function job_key(P, job) return P .. ':job:' .. job end

local function tag_of(P) return string.match(P, '{(.*)}$') end

-- home_tag: the tag of the shard that an id belongs to; any language has the same arithmetic at hand
local function home_tag(tags, id) return tags[tonumber(string.sub(redis.sha1hex(id), 1, 8), 16) % #tags + 1] end

-- tags_of: the tags of all the fleet's shards, in order; none where it has one shard and nobody has said so
local function tags_of(P) return words(redis.call('HGET', P, 'tags') or '') end

-- configured_here: pools and quotas are written to the fleet's first shard; the others are given copies
local function configured_here(P)
  local first = tags_of(P)[1] or tag_of(P)
  if first ~= tag_of(P) then
    check(false, 'key', 'must be that of the first shard, {' .. first .. '}: it has the configuration of all')
  end
end

-- apply_late: whether a whole configuration comes too late: a copy (source) no newer than the one that is here, or one
-- that was made from another version than the present one. `name` is config or tenants.
local function apply_late(S, name, seen, source)
  if source then return (tonumber(redis.call('HGET', S.P, name .. '_source')) or 0) >= tonumber(source) end
  configured_here(S.P)
  return S[name .. '_version'] ~= seen
end

-- shard_open: one read of the shard's meta and clock; writes nothing, so that a rejected call changes no key. While the
-- shard is frozen every call ends here and is answered moving, but for those that may go on.
-- now_ms follows Redis's TIME by at most 1 s a step and never goes back: it stands still while Redis was away.
local function shard_open(P, frozen_too)
  local meta = redis.call('HMGET', P, 'epoch', 'clock', 'clock_seen_at_ms', 'config_version', 'structure_version',
    'reaped_ms', 'frozen', 'tenants_version')
  if meta[7] and not frozen_too then error({ moving = true }) end
  local time = redis.call('TIME')
  local S = {
    P = P, epoch = meta[1], time_us = tonumber(time[1]) * 1000000 + tonumber(time[2]),
    config_version = meta[4] or '0', structure_version = meta[5] or '0',
    reaped_ms = tonumber(meta[6]) or 0, tenants_version = meta[8] or '0',
  }
  S.time_ms = math.floor(S.time_us / 1000)
  S.time_text = number_text(S.time_ms)
  local clock, seen = tonumber(meta[2]), tonumber(meta[3])
  if not clock then
    S.now, S.clock_due = S.time_ms, true
  elseif S.time_ms < seen then
    -- the wall clock stepped back: start from it anew, past all that may have been handed out unwritten
    S.now, S.clock_due = clock + 100, true
  else
    S.now = clock + math.min(S.time_ms - seen, 1000)
    S.clock_due = S.time_ms - seen >= 100
  end
  return S
end

-- shard_write: the first write of a call that goes through: creates the shard, keeps its clock.
local function shard_write(S)
  if not S.epoch then
    S.epoch = string.sub(redis.sha1hex(S.P .. number_text(S.time_us)), 1, 16)
    -- what every call reads stands in front: a small hash is searched from there
    redis.call('HSET', S.P, 'epoch', S.epoch, 'clock', number_text(S.now), 'clock_seen_at_ms', S.time_text,
      'config_version', 0, 'structure_version', 0, 'version', 0, 'abi', ABI, 'revision', REVISION, 'shards', 1)
    S.clock_due = false
  end
  if S.clock_due then
    redis.call('HSET', S.P, 'clock', number_text(S.now), 'clock_seen_at_ms', S.time_text)
    S.clock_due = false
  end
end

-- event: one line of the lifecycle record.
local function event(S, kind, ...)
  redis.call('XADD', S.P .. ':events', 'MAXLEN', '~', 10000, '*', 'kind', kind, ...)
end

-- audited: somebody's doing, kept apart from what happens by itself, which would soon trim it. by is nil where nobody
-- said who. A caller whose user may not write it, such as a node's, has already changed what it may: it is no error then.
local function audited(S, by, kind, ...)
  if by then redis.pcall('XADD', S.P .. ':audit', 'MAXLEN', '~', 10000, '*', 'kind', kind, 'by', by, ...) end
end

local function acted(S, by, kind, ...)
  event(S, kind, ...)
  audited(S, by, kind, ...)
end

-- unique_number: rises with every use for one owner, also when the owner's last number was forgotten.
local function unique_number(S, last) return number_text(math.max((tonumber(last) or 0) + 1, S.time_us)) end

-- memory_full: what goes through over maxmemory, because it frees a slot or keeps a node alive, must not add to what is
-- too much.
local function memory_full()
  local info = redis.call('INFO', 'memory')
  local limit = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
  return limit > 0 and tonumber(string.match(info, 'used_memory:(%d+)')) >= limit
end
