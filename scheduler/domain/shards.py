"""Which shard an id belongs to; the functions in Redis have the same rule, and a node may use it in any language."""

import hashlib
from collections.abc import Sequence

SHARDS_MAX = 128


def home_tag(tags: Sequence[str], id_: str) -> str:
    """The tag of an id's shard: the first 32 bits of its SHA-1, modulo the number of shards."""
    if len(tags) == 1:
        return tags[0]
    first = hashlib.sha1(id_.encode(), usedforsecurity=False).digest()[:4]
    return tags[int.from_bytes(first, "big") % len(tags)]


def job_tag(tags: Sequence[str], job: str) -> str:
    """Where a job's id leads: to the tag that it begins with, or for one of the client's choice to its hash."""
    tag, dot, _ = job.partition(".")
    return tag if dot and ":" not in job and tag in tags else home_tag(tags, job)


def preference(session: str, tag: str) -> bytes:
    """Orders shards for a session, the greatest first: each replica finds the same one, and a shard that comes or
    goes moves no other session (highest random weight: Thaler and Ravishankar 1996).
    """
    return hashlib.sha1(f"{tag} {session}".encode(), usedforsecurity=False).digest()
