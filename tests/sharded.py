"""The keys of a test's fleet, whichever number of shards it has and wherever these lie."""

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import redis
from redis.cluster import RedisCluster

from scheduler.domain.shards import home_tag, job_tag


class Shards:
    """Looks into the shards of the fleet of namespace `fleet`; `redis` reaches every one of them."""

    def __init__(self, client: "redis.Redis | RedisCluster") -> None:
        self._client = client
        # the two have the same commands, but types of their own
        self.redis = cast("redis.Redis", client)
        held = cast("bytes | None", self.redis.hget("fleet:{0}", "tags"))
        self.tags = tuple((held or b"0").decode().split())
        self.keys = tuple(f"fleet:{{{tag}}}" for tag in self.tags)

    def of_node(self, node: str) -> str:
        """The key of the shard that the node is in."""
        return f"fleet:{{{home_tag(self.tags, node)}}}"

    def of_job(self, job: str) -> str:
        """The key of the shard that the job is in: the one that its id leads to, or where that says it went."""
        tag = job_tag(self.tags, job)
        for _ in self.tags:
            state, there = cast(
                "list[bytes | None]", self.redis.hmget(f"fleet:{{{tag}}}:job:{job}", "state", "shard")
            )
            if state != b"moved" or there is None:
                break
            tag = there.decode()
        return f"fleet:{{{tag}}}"

    def beside(self, node: str, name: str, tenant: str = "default") -> str:
        """A name for a job of the tenant that leads it to the node's shard."""
        names = (f"{name}{number}" for number in count())
        return next(found for found in names if self.of_job(f"{tenant}:{found}") == self.of_node(node))

    def neighbour(self, node: str, name: str) -> str:
        """An id for a node in the same shard."""
        names = (f"{name}{number}" for number in count())
        return next(found for found in names if self.of_node(found) == self.of_node(node))

    def node(self, node: str) -> str:
        """The node's key; those of its leases and its inbox begin with it."""
        return f"{self.of_node(node)}:node:{node}"

    def job(self, job: str) -> str:
        return f"{self.of_job(job)}:job:{job}"

    def holding(self, node: str) -> int:
        """How many leases the node has."""
        return self.redis.zcard(f"{self.node(node)}:leases")

    def total(self, name: str) -> int:
        """The size of this sorted set, such as `leases`, in all shards together."""
        return sum([self.redis.zcard(f"{key}:{name}") for key in self.keys])

    def found(self, pattern: str) -> dict[str, str]:
        """The keys of all shards that match, without the shard, and the shard of each."""
        told: dict[str, str] = {}
        for name in self._matching(f"fleet:{{*}}:{pattern}"):
            shard, _, rest = name.partition("}:")
            told[rest] = shard + "}"
        return told

    def everything(self) -> dict[str, bytes]:
        """Every key of every shard as its serialised bytes: equal before and after means that nothing changed."""
        return {name: cast("bytes", self.redis.dump(name)) for name in sorted(self._matching("*"))}

    def _matching(self, pattern: str) -> Iterator[str]:
        """KEYS of a cluster client asks one primary only."""
        for name in self.redis.scan_iter(match=pattern, count=10_000):
            yield name.decode()

    def everywhere(self, *command: str | int) -> None:
        """A command to every primary."""
        if isinstance(self._client, RedisCluster):
            self._client.execute_command(*command, target_nodes=RedisCluster.PRIMARIES)
        else:
            self._client.execute_command(*command)

    def reap(self, key: str) -> int:
        """One turn of reaping in this shard; answers how many nodes it found lost."""
        answer: Any = self.redis.execute_command("FCALL", "fleet1_reap", 1, key)
        assert answer[0] == b"reaped"
        return int(answer[1])

    def fcall(self, name: str, *args: str | float) -> list[Any]:
        """One call as redis-cli would make it, to the shard that its node's or job's id leads to."""
        about = name.partition("_")[0]
        of = {"node": self.of_node, "job": self.of_job}.get(about)
        key = of(str(args[0])) if of else self.keys[0]
        answer: Any = self.redis.execute_command("FCALL", f"fleet1_{name}", 1, key, *args)
        return [part.decode() if isinstance(part, bytes) else part for part in answer]
