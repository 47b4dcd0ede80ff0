"""Breaks one rule at a time, in a copy of the tree, and says whether the test of the judge turns red.

Run by `make mutants`: python -m tests.mutants [--examples 60]. Exit status 1 if a broken rule went unnoticed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TEST = "tests/property/test_oracle.py"


class Mutant(NamedTuple):
    rule: str
    file: str
    old: str
    new: str


F, N, X = "scheduler/placement/filters.py", "lua/shared/nodes.lua", "lua/shared/explaining.lua"
MUTANTS = (
    # the snapshot's filters
    Mutant("in a pool", F, "if not shape.pools.isdisjoint(wanted.order):", "if shape.pools:"),
    Mutant("capabilities", F, "fits = any(", "fits = True or any("),
    Mutant("capabilities, all of them", F, "tokens <= shape.offered", "not tokens.isdisjoint(shape.offered)"),
    Mutant("ready", F, 'return None if node.state == "ready" else Reason(node.state)', "return None"),
    Mutant("quarantine", F, "Reason.QUARANTINED if node.quarantined else None", "None"),
    Mutant("limits", F, "Reason.OVERLOADED if node.over else None", "None"),
    Mutant("free slot", F, "Reason.FULL if node.used >= node.slots else None", "None"),
    Mutant("excluded", F, "if node.id in exclude:\n        yield Reason.EXCLUDED", "pass"),
    Mutant("excluded, in the draw", "scheduler/placement/select.py", "if exclude else frozenset()", "if False else frozenset()"),
    Mutant("the tenant's nodes", F, "return not shape.pools.isdisjoint(self.serving)", "return True"),
    Mutant("the order of reasons", F, "(is_ready, is_not_quarantined, is_under", "(is_not_quarantined, is_ready, is_under"),
    Mutant("tenants", "scheduler/domain/pool.py", 'return "*" in self.tenants or tenant in self.tenants', "return True"),
    Mutant("languages", "scheduler/domain/pool.py", "return not self.languages or", "return True or"),
    Mutant("priority", "scheduler/domain/pool.py", "(-pools[name].priority, name)", "(pools[name].priority, name)"),
    Mutant("fallbacks", "scheduler/domain/pool.py", "if known in pools and known not in order and pools[known].serves(tenant):",
           "if known in pools and known not in order:"),
    Mutant("the first pool first", "scheduler/placement/eligible.py", "in enumerate(order, 1) if pool in", "in enumerate(order[::-1], 1) if pool in"),
    Mutant("the class of a refusal", "scheduler/placement/refusal.py", "if obstacle in {None, Reason.FULL, Reason.OVERLOADED}:", "if obstacle in {None, Reason.FULL}:"),
    Mutant("the class of an explanation", "scheduler/domain/explanation.py", "if not _BUSY.isdisjoint(reasons):", "if Reason.FULL in reasons:"),
    # the rules in Redis
    Mutant("state", N, "if node.state ~= 'ready' then return node.state end", ""),
    Mutant("quarantine", N, "if node_quarantined(node) then return 'quarantined' end", ""),
    Mutant("limits", N, "if node_over(S, node) ~= '' then return 'overloaded' end", ""),
    Mutant("limits of the fleet", N, "node[resource .. '_max'] or limits[resource]", "node[resource .. '_max'] or 85"),
    Mutant("free slot, in P:free", N, "if used >= node.slots then return 'full' end", ""),
    Mutant("free slot, in the claim", "lua/shared/choosing.lua", "if used >= slots or ", "if "),
    Mutant("liveness", "lua/shared/choosing.lua", "if tonumber(deadline_ms or 0) <= S.now then", "if false then"),
    Mutant("capabilities", "lua/shared/choosing.lua", "not offers(S, id, claim.any_of)", "false"),
    Mutant("in a pool", "lua/shared/choosing.lua", "if rank and (not best or rank < best) then best = rank end", "best = best or rank or 1"),
    Mutant("the present configuration", "lua/shared/choosing.lua", "if node_bring(S, node) then return nil end", ""),
    Mutant("the first pool first", "lua/shared/choosing.lua", "if a.rank ~= b.rank then return a.rank < b.rank end", ""),
    Mutant("excluded, in the look", "lua/shared/looking.lua", "if not claim.excluded[id] then", "if true then"),
    Mutant("excluded, in the class", "lua/shared/refusing.lua", "if not claim.excluded[id] and alive_and_ready(S, id)", "if alive_and_ready(S, id)"),
    Mutant("every pool", "lua/shared/looking.lua", "for rank, pool in ipairs(order) do", "for rank, pool in ipairs({ order[1] }) do"),
    Mutant("every alternative", "lua/shared/looking.lua", "for _, tokens in ipairs(any_of) do", "for _, tokens in ipairs({ any_of[1] }) do"),
    Mutant("unsettled nodes", N, "'LIMIT', 0, 32)", "'LIMIT', 0, 0)"),
    Mutant("alive and ready", "lua/shared/refusing.lua", "and deadline_ms > S.now", ""),
    Mutant("tenants", "lua/shared/pools.lua", "if served == '*' or served == tenant then", "if true then"),
    Mutant("languages", "lua/shared/pools.lua", "return languages ~= ''", "return true"),
    Mutant("language sets", "lua/shared/pools.lua", "table.concat(pool.languages, '-') == spoken", "spoken ~= ''"),
    Mutant("labels", "lua/shared/pools.lua", "if labels[label] ~= value then return false end", ""),
    Mutant("selected capabilities", "lua/shared/pools.lua", "if not offered[token] then return false end", ""),
    Mutant("priority", "lua/shared/pools.lua", "return first > second", "return first < second"),
    Mutant("fallbacks", "lua/shared/pools.lua", "while fallback and at <= #order do", "while false do"),
    # what Redis explains
    Mutant("in a pool", X, "if not pool_rank(node, order) then", "if false then"),
    Mutant("capabilities", X, "if #missing > 0 then", "if false then"),
    Mutant("excluded", X, "if wanted.excluded[node.id] then", "if false then"),
    Mutant("state", X, "if node.state ~= 'ready' then", "if false then"),
    Mutant("quarantine", X, "if node_quarantined(node) then", "if false then"),
    Mutant("limits", X, "if over ~= '' then", "if false then"),
    Mutant("free slot", X, "if node_used(S, node.id) >= node.slots then", "if false then"),
    Mutant("liveness", "lua/explain.lua", "if deadline_ms <= S.now then", "if false then"),
    Mutant("the tenant's nodes", "lua/explain.lua", "if not seen and not wanted.all then return nil end", ""),
    Mutant("the present configuration", "lua/explain.lua", "if node.config_version ~= S.config_version then", "if false then"),
)  # fmt: skip


def killed(mutant: Mutant, examples: int) -> tuple[Mutant, bool, str]:
    """Whether the test fails on a copy of the tree that has this rule broken."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        for part in ("scheduler", "lua", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / mutant.file
        text = file.read_text("utf-8")
        if text.count(mutant.old) != 1:
            return mutant, False, f"the rule stands {text.count(mutant.old)} times in the file"
        file.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        environ = {**os.environ, "FLEET_ORACLE_EXAMPLES": str(examples), "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TEST]
        done = subprocess.run(argv, cwd=copy, env=environ, capture_output=True, text=True, timeout=600, check=False)
        found = [line for line in done.stdout.splitlines() if line.startswith(("E  ", "FAILED", "ERROR"))]
        # a tree that does not even load would prove nothing
        red = done.returncode == 1 and f"FAILED {TEST}" in done.stdout
        return mutant, red, found[0][2:].strip() if found else done.stdout[-200:]


def judged(mutants: tuple[Mutant, ...], examples: int) -> Iterator[tuple[Mutant, bool, str]]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(lambda mutant: killed(mutant, examples), mutants)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=150)
    parser.add_argument("--only", default="", help="mutants whose rule or file contains this")
    options = parser.parse_args()
    chosen = tuple(m for m in MUTANTS if options.only in f"{m.rule} {m.file}")
    alive = 0
    for mutant, red, why in judged(chosen, options.examples):
        alive += not red
        print(f"{'killed  ' if red else 'SURVIVED'} {mutant.file}: {mutant.rule}: {why[:120]}", flush=True)
    print(f"mutants: {len(chosen) - alive} of {len(chosen)} killed")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
