"""What may be placed where, judged by brute force from the raw keyspace; shares no code with what it judges."""

import json
from typing import Any, NamedTuple

DEFAULT = {"default": '{"selector": {}, "tenants": ["*"], "fallback": [], "priority": 0}'}


class Judgement(NamedTuple):
    class_: str
    nodes: dict[str, str]  # what keeps it away, or eligible, for each node that the tenant may see
    ranks: dict[str, int]  # of the best pool of each eligible node, from 0
    pools: dict[str, str]  # what each pool of the order would answer alone


def order_of(pools: dict[str, Any], want: dict[str, Any]) -> list[str]:
    mine = [n for n in pools if {"*", want["tenant"]} & {*pools[n]["tenants"]}]
    spoken = {*want["languages"]}
    fits = [n for n in mine if "languages" not in pools[n] or (spoken and spoken <= {*pools[n]["languages"]})]
    order = sorted(fits, key=lambda n: (-pools[n]["priority"], n))
    if want["pool"]:
        order = [n for n in mine if n == want["pool"]]
    queue = list(order) if want["fallback"] else []
    while queue:
        for name in pools[queue.pop(0)]["fallback"]:
            if name in mine and name not in order:
                order.append(name)
                queue.append(name)
    return order


def belongs(pool: dict[str, Any], tokens: set[str], labels: dict[str, str]) -> bool:
    if "languages" in pool:
        return {*pool["languages"]} == {t[9:] for t in tokens if t.startswith("semantic:")}
    selector = pool["selector"]
    return tokens >= {*selector.get("capabilities", ())} and labels.items() >= selector.get("labels", {}).items()


def why_not(keys: dict[str, Any], name: str, now: float, want: dict[str, Any], tokens: set[str]) -> str | None:
    node, meta = keys[f"node:{name}"], keys["fleet:{0}"]
    if not any(tokens >= {*conjunction} for conjunction in want["any_of"]):
        return "missing_capability"
    if name in want["exclude"]:
        return "excluded"
    if keys["nodes"][name] <= now or node["state"] != "ready":
        return "lost" if keys["nodes"][name] <= now else str(node["state"])
    if "quarantined_until_ms" in node:
        return "quarantined"
    if any(float(node[r]) > float(node.get(f"{r}_max", meta.get(f"{r}_max", 85))) for r in ("cpu", "gpu", "mem")):
        return "overloaded"
    return "full" if len(keys.get(f"node:{name}:leases", ())) >= int(node["slots"]) else None


def class_of(reasons: set[str | None]) -> str:
    if None in reasons:
        return "placeable"
    if reasons & {"full", "overloaded"}:
        return "overloaded"
    return "unavailable" if reasons - {"missing_capability", "not_in_pool"} else "impossible"


def judge(keys: dict[str, Any], now: float, want: dict[str, Any]) -> Judgement:
    stored = DEFAULT if keys["fleet:{0}"]["config_version"] == "0" else keys.get("pools", {})
    pools: dict[str, Any] = {name: json.loads(text) for name, text in stored.items()}
    order = order_of(pools, want)
    if want["pool"] and not order:
        return Judgement("denied", {}, {}, {})
    nodes: dict[str, str | None] = {}
    homes: dict[str, list[str]] = {}
    for name in keys.get("nodes", {}):
        words = keys[f"node:{name}"]["capabilities"].split()
        tokens = {*words, *(word.split(":")[0] for word in words)}
        labels = dict(pair.split("=", 1) for pair in keys[f"node:{name}"]["labels"].split())
        homes[name] = [n for n in pools if belongs(pools[n], tokens, labels)]
        if any({"*", want["tenant"]} & {*pools[n]["tenants"]} for n in homes[name]):
            reached = {*homes[name]} & {*order}
            nodes[name] = why_not(keys, name, now, want, tokens) if reached else "not_in_pool"
    ranks = {name: min(map(order.index, {*homes[name]} & {*order})) for name, reason in nodes.items() if not reason}
    alone = {pool: class_of({reason for name, reason in nodes.items() if pool in homes[name]}) for pool in order}
    return Judgement(class_of({*nodes.values()}), {n: r or "eligible" for n, r in nodes.items()}, ranks, alone)
