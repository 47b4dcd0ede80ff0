-- telling: the shard in numbers, for whoever watches it.

-- Looks into queues of one call: for 128 demands with jobs of two priorities each.
local LOOKS_MAX = 384

-- queued_first: since when the first job of the queue waits, of those behind the score low; nil where there is none
local function queued_first(queue, low)
  local found = redis.call('ZRANGEBYSCORE', queue, low, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local score = tonumber(found[2])
  if score then return score % PRIORITY_SPAN, math.floor(score / PRIORITY_SPAN) end
end

-- oldest_ms: for how long the job that has waited longest waits. A queue is in order of age within each priority only: with
-- many queues of many priorities this looks at some of them, from a turning start.
local function oldest_ms(S)
  local oldest, names, looks = S.now, redis.call('HKEYS', S.P .. ':waiting'), 0
  for i = 1, #names do
    if looks >= LOOKS_MAX then break end
    local queue = queue_key(S, names[(S.time_us + i) % #names + 1])
    local since, turn = queued_first(queue, '-inf')
    while since do
      oldest, looks = math.min(oldest, since), looks + 1
      since, turn = queued_first(queue, number_text((turn + 1) * PRIORITY_SPAN))
    end
    looks = looks + 1
  end
  return S.now - oldest
end

-- truths_of: the shard in numbers, by name. Apart from the look at the queues each costs the same however much there is.
local function truths_of(S)
  local waiting = redis.call('ZCARD', S.P .. ':pending')
  local held = redis.call('HMGET', S.P, 'reaped_nodes', 'reaped_leases', 'reaped_jobs')
  return {
    revision = REVISION, leases = redis.call('ZCARD', S.P .. ':leases'),
    waiting_jobs = waiting, waiting_demands = redis.call('HLEN', S.P .. ':waiting'),
    oldest_ms = waiting > 0 and oldest_ms(S) or 0, paused = reaping_pauses(S) and 1 or 0,
    reaped_nodes = tonumber(held[1]) or 0, reaped_leases = tonumber(held[2]) or 0, reaped_jobs = tonumber(held[3]) or 0,
  }
end
