"""The real library with a judge in it: every placement and every refusal is checked in the step that decides it."""

from pathlib import Path
from typing import cast

import redis

from scheduler.store.library import read_library

P = "fleet:{0}"
# a line of the library, and what stands there in the audited one
_JUDGED = (
    (
        "  local class = refusal_class(S, claim, order)",
        "  local class = refusal_class(S, claim, order)\n  audit.refused(S, claim, class)",
    ),
    (
        "    return reply('refused', 'impossible', claim.loads, S.epoch)",
        "    audit.refused(S, claim, 'impossible')\n    return reply('refused', 'impossible', claim.loads, S.epoch)",
    ),
    (
        "  if not order then return reply('denied') end",
        "  if not order then audit.refused(S, claim, 'denied') return reply('denied') end",
    ),
    (
        "  if tenant_full(S, claim.tenant) then return refused(S, claim, 'quota') end",
        "  if tenant_full(S, claim.tenant) then audit.limited(S, claim) return refused(S, claim, 'quota') end",
    ),
    (
        "function claim_write(S, claim, node, new)",
        "function claim_write(S, claim, node, new)\n  audit.placed(S, claim, node.id, node.pool)",
    ),
    (
        "local function reply(...) return { ... } end",
        Path(__file__).with_name("audit.lua").read_text("utf-8") + "\nlocal function reply(...) return { ... } end",
    ),
)


def audited_library(*sabotage: tuple[str, str]) -> str:
    """The source to load; sabotage are further (line, replacement) pairs, for tests that the judge sees it."""
    code = read_library().code
    for line, judged in (*_JUDGED, *sabotage):
        if code.count(line) != 1:
            raise SystemExit(f"the audit does not find this once: {line.strip()}")
        code = code.replace(line, judged)
    return code


def read_audit(client: redis.Redis) -> dict[str, int]:
    """What the judge counted; names that begin with `bad:` are violations."""
    raw = cast("dict[bytes, bytes]", client.hgetall(f"{P}:audit"))
    return {name.decode(): int(value) for name, value in sorted(raw.items())}
