-- moving: a job that is in another shard leaves a word here, at the shard that its id leads to: where, and under which
-- hold. Until that shard is known to have it, what it needs to be placed stays here, too, so that it is never lost.

-- How long a move is left to whoever began it, and how often it is asked whether a job that moved is still there.
local MOVE_RETRY_MS, MOVE_LOOK_MS = 2500, 600000
-- What a job takes along.
local MOVED_FIELDS = { 'tenant', 'demand', 'digest', 'asked_pool', 'fallback', 'payload', 'ack_ms', 'timeout_ms',
  'max_attempts', 'retry_failed', 'priority', 'deliver', 'session', 'affinity', 'exclude', 'languages', 'wait_ms',
  'releases', 'released_by', 'attempt', 'fence', 'created_at_ms' }

local function moved_read(S, id)
  local held = redis.call('HMGET', job_key(S.P, id), 'state', 'shard', 'hold', 'settled', 'demand')
  return { state = held[1], shard = held[2], hold = held[3], settled = held[4], demand = held[5] }
end

-- moved_record: what the other shard needs to place the job, as msgpack; '' where only its caller has that
local function moved_record(S, id)
  local values, record = redis.call('HMGET', job_key(S.P, id), unpack(MOVED_FIELDS)), {}
  if not values[2] then return '' end
  for i, name in ipairs(MOVED_FIELDS) do record[name] = values[i] or nil end
  return cmsgpack.pack(record)
end

local function moved_write(S, id, shard, hold, ...)
  redis.call('HSET', job_key(S.P, id), 'state', 'moved', 'shard', shard, 'hold', hold, ...)
  redis.call('ZADD', S.P .. ':moved', number_text(S.now + MOVE_RETRY_MS), id)
end
