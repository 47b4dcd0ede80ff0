"""Identifiers: their types, their alphabets and the checks that every door applies."""

import re
from typing import NewType

from scheduler.errors import BadInput

NodeId = NewType("NodeId", str)
JobId = NewType("JobId", str)
Tenant = NewType("Tenant", str)
PoolName = NewType("PoolName", str)
Token = NewType("Token", str)
Fence = NewType("Fence", int)

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
SESSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z"
TOKEN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:>-]{0,127}\Z"
JOB_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z"

_ID = re.compile(ID_PATTERN)
_JOB_ID = re.compile(JOB_ID_PATTERN)
_TOKEN = re.compile(TOKEN_PATTERN)


def _checked(pattern: re.Pattern[str], field: str, value: str, limit: int, letters: str) -> str:
    if pattern.match(value) is None:
        raise BadInput(field, f"must be 1 to {limit} characters of {letters} and begin with a letter or digit")
    return value


def checked_id(field: str, value: str) -> str:
    """The id of a node, pool or tenant, or a client's job id; BadInput names the field and the limit."""
    return _checked(_ID, field, value, 64, "A-Z a-z 0-9 . _ -")


def checked_job_id(value: str) -> JobId:
    """A stored job id: made by a replica, or `<tenant>:<id>` where the client chose it."""
    if _JOB_ID.match(value) is None:
        raise BadInput("job", "must be an id of up to 64 characters, or <tenant>:<id>")
    return JobId(value)


def checked_token(field: str, value: str) -> Token:
    """One capability token."""
    return Token(_checked(_TOKEN, field, value, 128, "A-Z a-z 0-9 . _ : > -"))
