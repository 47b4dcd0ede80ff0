"""Shards of one server, and those who move jobs between them as generators that may stop before any call.

They say what engine/spreading.py and engine/moving.py do, call by call: each yields a call and is sent its answer.
"""

from collections.abc import Generator
from typing import Any, NamedTuple, cast

import msgpack
import redis

from scheduler.domain.shards import home_tag

TAGS = ("0", "1", "2")
TENANT, DIGEST, HOLD_MS = "acme", "d", 2_000
WAIT_MS = 60_000
Answer = list[Any]


class Call(NamedTuple):
    """One call of one shard; `whereabouts` is the one that is no function: it reads a job's hash."""

    tag: str
    name: str
    args: tuple[str | int | bytes, ...]


Keys = dict[str, dict[str, Any]]
Actor = Generator[Call, Answer, Answer | None]


def prefix(tag: str) -> str:
    return f"fleet:{{{tag}}}"


def home(job: str) -> str:
    return home_tag(TAGS, job)


def nodes_of(tag: str, count: int) -> list[str]:
    found = [name for name in (f"n{number}" for number in range(100)) if home_tag(TAGS, name) == tag]
    return found[:count]


def _reading(name: str) -> tuple[str, ...]:
    """The command that reads a key of this name; nothing for one that is of no interest here."""
    if name.startswith("hold:"):
        return ("GET",)
    if name.startswith("job:") or name == "waiting" or name.endswith(":ending"):
        return ("HGETALL",)
    if name.startswith("queue:") or name in {"leases", "pending", "moved"} or name.endswith(":leases"):
        return ("ZRANGE", "0", "-1")
    if name.startswith("node:") and name.count(":") == 1:
        return ("HGETALL",)
    return ("SMEMBERS",) if name == "free" else ()


def read_all(client: redis.Redis) -> Keys:
    """Of each shard what tells of jobs, holds and slots, in two round trips."""
    names: Any = client.keys("fleet:*")
    found: Keys = {tag: {} for tag in TAGS}
    asked = []
    pipeline = client.pipeline(transaction=False)
    for key in names:
        tag, _, name = key.decode().removeprefix("fleet:{").partition("}:")
        if words := _reading(name):
            asked.append((tag, name))
            pipeline.execute_command(words[0], key, *words[1:])
    for (tag, name), value in zip(asked, pipeline.execute(), strict=True):
        if isinstance(value, dict):
            found[tag][name] = {field.decode(): held.decode() for field, held in value.items()}
        elif isinstance(value, bytes):
            found[tag][name] = value.decode()
        else:
            found[tag][name] = {member.decode() for member in value}
    return found


def _claim(tag: str, job: str, **fields: Any) -> Call:
    claim = {"id": job, "tenant": TENANT, "demand": '{"any_of":[["gpu"]]}', "config_version": "0"}
    claim |= {"structure_version": "0", "nodes": [], "structures": [], "ranks": []} | fields
    return Call(tag, "job_claim", (msgpack.packb(claim, use_bin_type=False),))


def hold_call(tag: str, hold: str) -> Call:
    return _claim(tag, hold, hold=hold, hold_ms=HOLD_MS)


def take_call(tag: str, job: str, hold: str, record: bytes) -> Call:
    """As pack_moved has it."""
    held = msgpack.unpackb(record)
    numbers = ("ack_ms", "max_attempts", "wait_ms", "releases", "attempt")
    more: dict[str, Any] = {name: int(held[name]) for name in numbers if name in held}
    more |= {name: held[name] for name in ("digest", "released_by", "created_at_ms", "payload") if name in held}
    if "fence" in held:
        more["last_fence"] = held["fence"]
    return _claim(tag, job, hold=hold, **more)


def execute(client: redis.Redis, call: Call) -> Answer:
    """The answer with its words as text; a claim's own answer, and the moves of moves_due, come unpacked."""
    if call.name == "whereabouts":
        held: Any = client.hmget(f"{prefix(call.tag)}:job:{call.args[0]!s}", ["state", "shard"])
        return [value and value.decode() for value in held]
    raw = cast("Answer", client.execute_command("FCALL", f"fleet1_{call.name}", 1, prefix(call.tag), *call.args))
    if call.name == "job_claim":
        return [_text(value) for value in msgpack.unpackb(raw[1], raw=True)[0]]
    if call.name == "moves_due":
        return [[*map(_text, move[:3]), *move[3:]] for move in msgpack.unpackb(raw[1], raw=True)]
    return [_text(raw[0]), *(value if call.name == "job_move" else _text(value) for value in raw[1:])]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _followed(job: str, at: str, verdict: Answer) -> Actor:
    """Spreader._followed"""
    while verdict[0] == "moved":
        there, hold = verdict[1:3]
        verdict = yield _claim(there, job, hold=hold, digest=DIGEST)
        if verdict[0] == "lapsed":
            yield Call(at, "job_return", (job, hold))
            return None
        if verdict[0] in {"placed", "exists"}:
            yield Call(at, "job_settle", (job, hold, "1"))
        at = there
    return verdict


def _asked(job: str, shard: str, hold: str) -> Actor:
    """Spreader._asked"""
    if shard == home(job):
        verdict = yield _claim(shard, job, digest=DIGEST)
        return (yield from _followed(job, shard, verdict))
    verdict = yield hold_call(shard, hold)
    if verdict[0] != "held":
        return verdict
    noted = yield Call(home(job), "job_move", (job, shard, hold, TENANT, DIGEST))
    if noted[0] != "moved":
        yield Call(shard, "hold_drop", (hold,))
        return None
    return (yield from _followed(job, home(job), ["moved", shard, hold]))


def client_of(job: str, order: tuple[str, ...], name: str, *, waits: bool) -> Actor:
    """Spreader._chosen: the client's call, or its retry; its result is the verdict, None where there was none."""
    for turn in range(20):
        for shard in order:
            verdict = yield from _asked(job, shard, f"hold.{name}.{turn}.{shard}")
            if verdict is None:
                break
            if verdict[0] not in {"refused", "again"}:
                return verdict
        else:
            if not waits:
                return ["refused"]
            verdict = yield _claim(home(job), job, digest=DIGEST, elsewhere=True, wait_ms=WAIT_MS)
            return (yield from _followed(job, home(job), verdict))
        order = (home(job), *(shard for shard in order if shard != home(job)))
    return None


def _hand_over(shard: str, other: str, job: str, hold: str, record: bytes) -> Actor:
    """Mover._hand_over"""
    answer = yield take_call(other, job, hold, record)
    if answer[0] in {"placed", "exists", "moved"}:
        yield Call(shard, "job_settle", (job, hold, "1"))
    elif answer[0] == "lapsed":
        yield Call(shard, "job_return", (job, hold))
    return None


def mover_of(shard: str, other: str, job: str, name: str) -> Actor:
    """Mover._move"""
    hold = f"hold.{name}"
    if (yield hold_call(other, hold))[0] != "held":
        return None
    noted = yield Call(shard, "job_move", (job, other, hold))
    if noted[0] != "moved":
        yield Call(other, "hold_drop", (hold,))
        return None
    return (yield from _hand_over(shard, other, job, hold, noted[1]))


def ender_of(shard: str) -> Actor:
    """Mover._end_moves"""
    for job, other, hold, settled, record in (yield Call(shard, "moves_due", (32,))):
        if record:
            yield from _hand_over(shard, other, job, hold, record)
            continue
        known, _ = yield Call(other, "whereabouts", (job,))
        if known is None and not settled:
            yield Call(other, "hold_drop", (hold,))
            known, _ = yield Call(other, "whereabouts", (job,))
            if known is None:
                yield Call(shard, "job_return", (job, hold))
                continue
        lives = known in {"pending", "claimed", "running", "moved"}
        yield Call(shard, "job_settle", (job, hold, "1" if lives else "0"))
    return None


def canceller_of(job: str) -> Actor:
    """Asks the job's home, and wherever that sends it."""
    tag = home(job)
    for _ in range(5):
        answer = yield Call(tag, "job_cancel", (job,))
        if answer[0] != "moved":
            return answer
        tag = answer[1]
    return None
