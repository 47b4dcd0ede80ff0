"""The text of keys, whom they let in, and what roles are allowed to be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.apikey import (
    ApiKey,
    Caller,
    KeyId,
    admitted,
    checked_key_id,
    hashed,
    key_text,
    new_key,
    read_key,
    rotated,
    session_of,
)
from scheduler.domain.ids import NodeId, Tenant
from scheduler.errors import BadInput

SECRET, OTHER = "s" * 43, "o" * 43
ID, SESSION = KeyId("key00001"), KeyId("session1")
IDS = st.from_regex(r"[a-z0-9]{8,32}", fullmatch=True)
SECRETS = st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True)


def key(**more: Any) -> ApiKey:
    given: dict[str, Any] = {"hash": hashed(SECRET), "tenant": "acme", "role": "submit", "created_at_ms": 0}
    return ApiKey(**given | more)


@given(IDS, SECRETS)
def test_a_key_that_is_written_is_read_again(id_: str, secret: str) -> None:
    assert read_key(key_text(KeyId(id_), secret)) == (id_, secret)


@given(st.text(max_size=100) | st.from_regex(r"fleet_[A-Za-z0-9_-]*"))
def test_any_text_is_a_key_in_its_one_spelling_or_none(text: str) -> None:
    found = read_key(text)
    assert found is None or key_text(*found) == text


@given(IDS, SECRETS, st.integers(0, 80), st.text(min_size=1, max_size=3))
def test_a_key_with_anything_more_in_it_is_another_or_none(id_: str, secret: str, at: int, more: str) -> None:
    text = key_text(KeyId(id_), secret)
    assert read_key(text[:at] + more + text[at:]) != (id_, secret)


@pytest.mark.parametrize(
    "text", ["", "fleet_", "fleet_key00001_", f"fleet_key00001_{SECRET}\n", f"Fleet_key00001_{SECRET}"]
)
def test_what_is_no_key_is_none(text: str) -> None:
    assert read_key(text) is None


def test_a_key_lets_in_who_has_its_secret() -> None:
    keys = {ID: key(node="n1", role="node"), SESSION: key(tenant="*", role="admin")}
    assert admitted(keys, ID, hashed(SECRET), 0) == Caller("node", Tenant("acme"), NodeId("n1"), ID, hashed(SECRET))
    assert admitted(keys, SESSION, hashed(SECRET), 0) == Caller("admin", None, None, SESSION, hashed(SECRET))
    assert admitted(keys, ID, hashed(OTHER), 0) is None
    assert admitted(keys, KeyId("unknown1"), hashed(SECRET), 0) is None


def test_a_key_ends_at_its_instant() -> None:
    keys = {ID: key(expires_at_ms=100)}
    assert admitted(keys, ID, hashed(SECRET), 99)
    assert admitted(keys, ID, hashed(SECRET), 100) is None


def test_a_rotated_key_takes_the_new_secret_and_the_old_one_for_its_grace() -> None:
    at_once, later = rotated(key(), OTHER, 100, 0), rotated(key(), OTHER, 100, 50)
    for fresh in (at_once, later):
        assert admitted({ID: fresh}, ID, hashed(OTHER), 10**9)
    assert admitted({ID: at_once}, ID, hashed(SECRET), 100) is None
    assert admitted({ID: later}, ID, hashed(SECRET), 149)
    assert admitted({ID: later}, ID, hashed(SECRET), 150) is None
    assert admitted({ID: rotated(later, "t" * 43, 120, 50)}, ID, hashed(SECRET), 121) is None, "two are enough"


def session(parent: ApiKey, now_ms: int = 10) -> ApiKey:
    caller = Caller(parent.role, Tenant("acme"), None, ID, parent.hash)
    return session_of(caller, parent, OTHER, now_ms, 1_000)


def test_a_session_may_what_its_key_may_and_ends_with_it() -> None:
    parent = key(role="operator")
    keys = {ID: parent, SESSION: session(parent)}
    found = admitted(keys, SESSION, hashed(OTHER), 20)
    assert found == Caller("operator", Tenant("acme"), None, SESSION, hashed(OTHER))
    assert admitted(keys, SESSION, hashed(OTHER), 1_010) is None
    del keys[ID]
    assert admitted(keys, SESSION, hashed(OTHER), 20) is None


def test_a_session_ends_when_the_secret_that_it_was_made_with_does() -> None:
    parent = key()
    keys = {ID: rotated(parent, "t" * 43, 20, 50), SESSION: session(parent)}
    assert admitted(keys, SESSION, hashed(OTHER), 60)
    assert admitted(keys, SESSION, hashed(OTHER), 70) is None


def test_a_session_does_not_outlive_a_key_that_expires() -> None:
    assert session(key(expires_at_ms=500)).expires_at_ms == 500
    assert session(key(expires_at_ms=5_000)).expires_at_ms == 1_010


def test_a_session_is_no_key_to_make_sessions_with() -> None:
    parent = key(parent="grandpar", parent_hash=hashed(SECRET))
    keys = {ID: parent, SESSION: session(parent), KeyId("grandpar"): key()}
    assert admitted(keys, SESSION, hashed(OTHER), 20) is None


def test_a_damaged_session_without_its_keys_hash_lets_nobody_in() -> None:
    keys = {ID: key(), SESSION: key(hash=hashed(OTHER), parent=ID)}
    assert admitted(keys, SESSION, hashed(OTHER), 0) is None


def test_a_new_key_has_what_its_role_needs() -> None:
    assert new_key(SECRET, "acme", "submit", 5, expires_ms=10) == key(created_at_ms=5, expires_at_ms=15)
    assert new_key(SECRET, "*", "node", 0, node="n1").node == "n1"
    for field, given_ in (
        ("tenant", {"tenant": "a b"}),
        ("tenant", {"role": "admin"}),
        ("node", {"role": "node"}),
        ("node", {"node": "n1"}),
        ("node", {"role": "node", "node": "a b"}),
    ):
        words: dict[str, Any] = {"tenant": "acme", "role": "submit", **given_}
        with pytest.raises(BadInput) as caught:
            new_key(SECRET, words.pop("tenant"), words.pop("role"), 0, **words)
        assert caught.value.field == field


def test_an_id_is_checked() -> None:
    assert checked_key_id("ID", "key00001") == "key00001"
    for wrong in ("", "short", "KEY00001", "key00001\n", "k" * 33):
        with pytest.raises(BadInput):
            checked_key_id("ID", wrong)
