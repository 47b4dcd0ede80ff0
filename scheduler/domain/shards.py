"""Which shard an id belongs to; the functions in Redis have the same rule, and a node may follow it in any language."""

import hashlib
from collections.abc import Sequence

SHARDS_MAX = 128


def home_tag(tags: Sequence[str], id_: str) -> str:
    """The tag of an id's shard: the first 32 bits of its SHA-1, modulo the number of shards."""
    if len(tags) == 1:
        return tags[0]
    first = hashlib.sha1(id_.encode(), usedforsecurity=False).digest()[:4]
    return tags[int.from_bytes(first, "big") % len(tags)]


def preference(session: str, tag: str) -> bytes:
    """Orders shards for a session, the greatest first: each replica finds the same one, and a shard that comes or goes
    moves no other session (highest random weight: Thaler and Ravishankar 1996).
    """
    return hashlib.sha1(f"{tag} {session}".encode(), usedforsecurity=False).digest()
