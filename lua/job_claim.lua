-- job_claim: give each of up to 16 new jobs a slot on the best node by its true state, or say why not.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- ARGV[…] claim        msgpack map: id, tenant, demand (JSON with any_of), config_version, structure_version, nodes,
--                      structures, ranks (the shortlist, aligned); optional: digest (-), pool ('' = the tenant's), fallback
--                      (true), offered (false: the snapshot knows no node that offers it), look (false: the caller pages
--                      through all its eligible nodes), last (that page is the last), exclude "<node> …", languages,
--                      session, affinity sticky|spread, payload, deliver, priority, ack_ms, timeout_ms, max_attempts,
--                      retry_failed, wait_ms (if it is refused, but for being impossible, it waits), traceparent (W3C),
--                      elsewhere (true: another shard offers it, so it may wait also where it is impossible here);
--                      with hold and hold_ms no job is made: a slot is held under this token for as long; with hold
--                      alone the held slot is the job's; a job that comes from another shard brings attempt, last_fence,
--                      created_at_ms, releases, released_by
-- Reply   claimed <msgpack: a list for each claim>
--         [placed <job> <node> <endpoint> <pool> <fence> <attempt> <lease_expires_at_ms> <looked> [<used>…]
--             <its used before> <its slots>]
--         | [exists <state> <node> <endpoint> <pool> <fence> <attempt> <lease_expires_at_ms>] | [differs] | [denied]
--         | [refused <class> [<used>…] <epoch>] | [again <why> [<used>…]]
--         | [waiting <job> [<used>…]] | [crowded demands|jobs|tenant|waiting_jobs [<used>…]]
--         | [held [<used>…]] | [lapsed] (nothing is held under this token) | [moved <tag> <hold>] (ask that shard)
-- Cost    a claim from its shortlist about 16 commands; at most about 0.7 ms for the nodes that a whole call shows (512
--         at most) and 0.8 ms for its looks
-- refuse: only on the strength of a complete look: this one, or the caller's pages at an unchanged structure.
local function refuse(S, claim, order, complete)
  if claim.look == false then
    if claim.cut then return reply('again', 'budget', claim.loads) end
    if not claim.last then return reply('again', 'page', claim.loads) end
    complete = settled_as_seen(S, claim)
  end
  -- a node that was met on the way may have brought a language pool that the order does not have
  complete = complete and order.config_version == S.config_version
  if not complete then return reply('again', claim.look == false and 'structure' or 'look', claim.loads) end
  local class = refusal_class(S, claim, order)
  return refused(S, claim, class)
end

local function claim_one(S, claim)
  if claim.hold_ms then
    local held, known_before = hold_read(S, claim.hold)
    if known_before then return held and reply('held', {}) or reply('lapsed') end
  elseif claim.hold then
    return claim_held(S, claim)
  elseif redis.call('EXISTS', job_key(S.P, claim.id)) == 1 then
    return known(S, claim)
  end
  local order = pool_order(S, claim.tenant, claim.pool, claim.fallback, claim.languages or '')
  if not order then return reply('denied') end
  claim.loads = {}
  -- that no node offers it is a fact of the structure, if the structure is still the one that the replica saw
  if claim.offered == false and not claim.elsewhere and settled_as_seen(S, claim) then
    return reply('refused', 'impossible', claim.loads, S.epoch)
  end
  -- before any node is looked at: a tenant that has all it may have costs next to nothing
  if tenant_full(S, claim.tenant) then return refused(S, claim, 'quota') end
  local node, sticky = proposed(S, claim, order)
  local complete = false
  if not sticky and claim.look ~= false and (not node or node.rank > 1 or node.avoided) then
    claim.looked = node and 0 or 1
    node, complete = look(S, claim, order, node)
  end
  if not node then return refuse(S, claim, order, complete) end
  return claim.hold_ms and hold_write(S, claim, node) or claim_write(S, claim, node, true)
end

define('job_claim', function(P, ...)
  local claims = claims_arg(...)

  local S = shard_open(P)
  shard_write(S)
  S.shortlist_budget, S.budget = SHORTLIST_BUDGET, LOOK_BUDGET
  local answers = {}
  for i = 1, #claims do answers[i] = claim_one(S, claims[i]) end
  return reply('claimed', cmsgpack.pack(answers))
end)
