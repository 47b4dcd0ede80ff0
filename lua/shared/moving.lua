-- moving: a job that is in another shard leaves a word here, where its id leads: which shard, and under which hold.
-- Until that shard is known to have it, what it needs to be placed stays here, too, so that it is never lost.

-- How long a move is left to whoever began it, and how often it is asked whether a job that moved is still there.
local MOVE_RETRY_MS, MOVE_LOOK_MS = 2500, 600000
-- What a job takes along.
local MOVED_FIELDS = { 'tenant', 'demand', 'digest', 'asked_pool', 'fallback', 'payload', 'ack_ms', 'timeout_ms',
  'max_attempts', 'retry_failed', 'priority', 'deliver', 'session', 'affinity', 'exclude', 'languages', 'wait_ms',
  'releases', 'released_by', 'traceparent', 'attempt', 'fence', 'created_at_ms' }

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

-- known: what is told of an id that this shard knows already
local function known(S, claim)
  local held = redis.call('HMGET', job_key(S.P, claim.id), 'digest', 'state', 'node', 'pool', 'fence', 'attempt',
    'lease_expires_at_ms', 'shard', 'hold', 'demand')
  if (held[1] or '-') ~= claim.digest then return reply('differs') end
  -- one that waited here waits until the other shard is known to have it
  if held[2] == 'moved' and held[10] then return reply('exists', 'pending', '', '', '', '0', held[6] or '0', '0') end
  if held[2] == 'moved' then return reply('moved', held[8], held[9]) end
  local endpoint = held[3] and redis.call('HGET', node_key(S.P, held[3]), 'endpoint')
  return reply('exists', held[2], held[3] or '', endpoint or '', held[4] or '', held[5] or '0', held[6] or '0',
    held[7] or '0')
end

-- went_on: whether the job was here under this move and is in another shard by now. A stay before the move says nothing
-- of that; then the job is nowhere but where it is sent from, and each stay has a higher fence.
local function went_on(S, claim, state, fence)
  return state and (not claim.last_fence or tonumber(claim.last_fence) < (tonumber(fence or nil) or 0))
end

-- claim_held: the job, which another shard sends here, gets the slot that is held for it
local function claim_held(S, claim)
  local at = redis.call('HMGET', job_key(S.P, claim.id), 'state', 'fence')
  local state = at[1]
  if state and state ~= 'moved' then
    hold_drop(S, claim.hold)
    return known(S, claim)
  end
  local node = hold_take(S, claim.hold)
  if not node then return went_on(S, claim, state, at[2]) and known(S, claim) or reply('lapsed') end
  if state then
    -- it was here before
    redis.call('DEL', job_key(S.P, claim.id))
    redis.call('ZREM', S.P .. ':moved', claim.id)
  end
  claim.loads = {}
  return claim_write(S, claim, node, true)
end
