"""API keys: their text, what is stored of them, whom they let in, and what their roles may."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal, NewType

import msgspec

from scheduler.domain.ids import NodeId, Tenant, checked_id
from scheduler.errors import BadInput

KeyId = NewType("KeyId", str)
Role = Literal["submit", "node", "operator", "admin"]
Roles = frozenset[Role]

EVERYONE = "*"
# 32 random bytes in the URL's alphabet, which has the separator in it: only the first two separate.
_TEXT = re.compile(r"^fleet_([a-z0-9]{8,32})_([A-Za-z0-9_-]{43})\Z")
_NO_SUCH = hashlib.sha256(b"no key has this secret").hexdigest()


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored of a key; its secret is not. Instants are wall-clock milliseconds.

    A rotated key may accept its old secret for a while. A session's key has a `parent`, and that one's hash of the
    time: it ends with either. Only a node's key has a node.
    """

    hash: str
    tenant: str
    role: Role
    created_at_ms: int
    expires_at_ms: int | None = None
    node: str | None = None
    parent: str | None = None
    parent_hash: str | None = None
    old_hash: str | None = None
    old_expires_at_ms: int | None = None

    def accepts(self, hash_: str, now_ms: int) -> bool:
        """Whether this is the hash of a secret that is good now; takes as long for every wrong one."""
        if self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return False
        present = hmac.compare_digest(self.hash, hash_)
        old = hmac.compare_digest(self.old_hash or _NO_SUCH, hash_)
        return present or (old and self.old_expires_at_ms is not None and now_ms < self.old_expires_at_ms)


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the key that let it in and the hash by which it did; without a key, anyone while none is needed.

    `tenant` is None where every tenant may be named.
    """

    role: Role
    tenant: Tenant | None = None
    node: NodeId | None = None
    key: KeyId | None = None
    hash: str = ""
    cookie: bool = False


ANYONE = Caller("admin")


def key_text(id_: KeyId, secret: str) -> str:
    """The key as its owner has it."""
    return f"fleet_{id_}_{secret}"


def read_key(text: str) -> tuple[KeyId, str] | None:
    """Id and secret of a key, or None where the text is none."""
    found = _TEXT.match(text)
    return None if found is None else (KeyId(found[1]), found[2])


def hashed(secret: str) -> str:
    """What is stored of a secret. It is random and long: no guess needs to be made slow."""
    return hashlib.sha256(secret.encode()).hexdigest()


def checked_key_id(field: str, value: str) -> KeyId:
    if re.fullmatch(r"[a-z0-9]{8,32}", value) is None:
        raise BadInput(field, "must be the id of a key, as `fleet apikeys list` shows it")
    return KeyId(value)


def new_key(
    secret: str, tenant: str, role: Role, now_ms: int, *, node: str | None = None, expires_ms: int | None = None
) -> ApiKey:
    """A key by the rules of its role; BadInput where they are not met."""
    if tenant != EVERYONE:
        checked_id("tenant", tenant)
    if role == "admin" and tenant != EVERYONE:
        raise BadInput("tenant", "must be * for an admin, who may do everything")
    if (node is not None) != (role == "node"):
        raise BadInput("node", "must be named for the role node, and for no other")
    if node is not None:
        checked_id("node", node)
    return ApiKey(hashed(secret), tenant, role, now_ms, None if expires_ms is None else now_ms + expires_ms, node)


def rotated(key: ApiKey, secret: str, now_ms: int, grace_ms: int) -> ApiKey:
    """The same key with a new secret; the old one is good for so long."""
    return msgspec.structs.replace(
        key,
        hash=hashed(secret),
        old_hash=key.hash if grace_ms else None,
        old_expires_at_ms=now_ms + grace_ms if grace_ms else None,
    )


def session_of(parent: Caller, key: ApiKey, secret: str, now_ms: int, lasts_ms: int) -> ApiKey:
    """A key that may what the one it was made with may, for so long and no longer than that one."""
    end = now_ms + lasts_ms
    return ApiKey(
        hashed(secret),
        key.tenant,
        key.role,
        now_ms,
        end if key.expires_at_ms is None else min(end, key.expires_at_ms),
        key.node,
        parent.key,
        parent.hash,
    )


def admitted(keys: Mapping[KeyId, ApiKey], id_: KeyId, hash_: str, now_ms: int) -> Caller | None:
    """Who has this id and the hash of its secret, or None. An unknown id costs what a known one does."""
    key = keys.get(id_)
    if key is None:
        hmac.compare_digest(_NO_SUCH, hash_)
        hmac.compare_digest(_NO_SUCH, hash_)
        return None
    if not key.accepts(hash_, now_ms):
        return None
    if key.parent is not None:
        parent = keys.get(KeyId(key.parent))
        if parent is None or parent.parent is not None or not parent.accepts(key.parent_hash or "", now_ms):
            return None
    tenant = None if key.tenant == EVERYONE else Tenant(key.tenant)
    return Caller(key.role, tenant, None if key.node is None else NodeId(key.node), id_, hash_)
