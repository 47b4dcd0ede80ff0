"""Reads all nodes in one atomic step, again and again, while everything else is killed and stopped."""

import threading
import time
from collections import Counter
from typing import Any

import redis
from redis.exceptions import RedisError

from scheduler.dev.choice import plain_client

# One script is one instant: leases beyond slots, full nodes in P:free, leases that no job and no ending explains.
AUDIT = """
local P, seen = KEYS[1], { 0, 0, 0, 0, 0 }
for _, id in ipairs(redis.call('ZRANGE', P .. ':nodes', 0, -1)) do
  local key = P .. ':node:' .. id
  local slots, held = tonumber(redis.call('HGET', key, 'slots')), redis.call('ZRANGE', key .. ':leases', 0, -1)
  seen[1], seen[2] = seen[1] + 1, seen[2] + #held
  if #held > slots then seen[3] = seen[3] + 1 end
  if #held >= slots and redis.call('SISMEMBER', P .. ':free', id) == 1 then seen[4] = seen[4] + 1 end
  for _, job in ipairs(held) do
    local is = redis.call('HMGET', P .. ':job:' .. job, 'state', 'node')
    local leased = (is[1] == 'claimed' or is[1] == 'running') and is[2] == id
    if not leased and redis.call('HEXISTS', key .. ':ending', job) == 0 then
      seen[5] = seen[5] + 1
      seen[6] = cjson.encode({ id, redis.call('HGETALL', key), job, redis.call('HGETALL', P .. ':job:' .. job) })
    end
  end
end
return seen
"""
EXAMPLES = 20
NAMES = ("nodes", "leases", "bad: oversubscribed", "bad: full but free", "bad: a lease of nobody")


def audit_once(client: redis.Redis, shard: str) -> tuple[Counter[str], str]:
    """Counts of this instant, and one of the leases of nobody in full."""
    found: Any = client.eval(AUDIT, 1, shard)
    return Counter(dict(zip(NAMES, found, strict=False))), found[len(NAMES)].decode() if found[len(NAMES) :] else ""


class Auditor(threading.Thread):
    """Reads until told to stop; Redis may be away meanwhile."""

    def __init__(self, url: str, shard: str) -> None:
        super().__init__(daemon=True)
        self.seen = Counter[str]()
        self.examples: dict[str, None] = {}
        self.over = threading.Event()
        self._client, self._shard = plain_client(url), shard

    def run(self) -> None:
        while not self.over.is_set():
            try:
                found, example = audit_once(self._client, self._shard)
            except (RedisError, OSError):
                time.sleep(0.1)
                continue
            self.seen["reads"] += 1
            if example and len(self.examples) < EXAMPLES:
                self.examples[f"at {time.strftime('%X')}: {example}"] = None
            self.seen["most leases"] = max(self.seen["most leases"], found["leases"])
            self.seen.update({name: count for name, count in found.items() if name.startswith("bad:")})
            time.sleep(0.05)
