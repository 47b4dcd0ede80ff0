"""Two customers' calls are translated, utterance by utterance, each on nodes of its own customer."""

import asyncio
import json
import random
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from examples.stage import fleet_command, nodes, replicas, server
from scheduler.agent import Asr, Job, Nmt, NodeConfig, Tts
from scheduler.client import AsyncClient, Denied, JobState, NewJob, Refused
from scheduler.domain.ids import NodeId

POOLS = Path(__file__).with_name("pools.toml")
STEPS = ("asr", "nmt", "tts")
CALLS = (("zh", "en"), ("en", "de"), ("ja", "en"), ("en", "zh"))
UTTERANCES = 4
LANGUAGES = {"acme": ("zh", "en", "de", "ja"), "globex": ("zh", "en", "de", "ja", "fr")}


def fleet() -> list[NodeConfig]:
    """Three nodes for each customer; every one recognises, translates and speaks its customer's languages."""
    return [
        NodeConfig(
            id=NodeId(f"{tenant}-{i}"),
            slots=8,
            services=(Asr(spoken), Nmt("any_to_any", spoken), Tts(spoken)),
            labels={"customer": tenant},
        )
        for tenant, spoken in LANGUAGES.items()
        for i in (1, 2, 3)
    ]


async def model(job: Job) -> str:
    """A stand-in for the three models: takes its time, and says what it did."""
    asked = json.loads(job.payload)
    await asyncio.sleep(random.uniform(0.01, 0.06))
    said = {"asr": asked["said"], "nmt": f"<{asked['tgt']}>{asked['said']}", "tts": f"{asked['said']}.wav"}
    return str(said[asked["step"]])


@dataclass
class Seen:
    """Which nodes worked for whom, and how often a call changed its node."""

    nodes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    utterances: int = 0
    moved: int = 0


async def call(client: AsyncClient, tenant: str, number: int, src: str, tgt: str, seen: Seen) -> None:
    """One call: each step of each utterance is a job of the same session, and stays on the session's node."""
    session, last = f"{tenant}-call-{number}", ""
    for utterance in range(1, UTTERANCES + 1):
        said, route = f"utterance-{utterance}", []
        for step in STEPS:
            job = NewJob(
                # all that the call will need, so that its first step finds a node for every other one
                services=STEPS,
                src=src,
                tgt=tgt,
                session=session,
                affinity="sticky",
                payload={"step": step, "said": said, "tgt": tgt},
                wait_ms=5_000,
            )
            done = await client.wait((await client.place(job)).job.id, deadline_s=20)
            if done.state is not JobState.SUCCEEDED or done.node is None:
                raise RuntimeError(f"{session} {step}: {done.state} {done.reason}")
            seen.nodes[tenant].add(done.node.id)
            seen.moved += last not in {"", done.node.id}
            route.append(f"{step}@{done.node.id}")
            said, last = done.result or "", done.node.id
        seen.utterances += 1
        print(f"{session:<14} {src}>{tgt}  #{utterance}  {' '.join(route)}  {said}")


async def refusals(acme: AsyncClient, globex: AsyncClient) -> bool:
    """What a customer may not have; whether both were refused as they should be."""
    try:
        await globex.place(NewJob(services=STEPS, src="zh", tgt="en", pool="acme"))
    except Denied as error:
        print(f"\nglobex asks for acme's pool: {error}")
    else:
        return False
    try:
        # globex's nodes speak French: that is no reason to lend one
        await acme.place(NewJob(services=STEPS, src="fr", tgt="en"))
    except Refused as error:
        print(f"acme asks for French, which only globex has: {error}")
    else:
        return False
    return True


async def run(redis_url: str, urls: list[str]) -> bool:
    async with (
        AsyncClient(urls, tenant="acme") as acme,
        AsyncClient(urls, tenant="globex") as globex,
    ):
        clients = {"acme": acme, "globex": globex}
        async with nodes(redis_url, fleet(), model):
            seen = Seen()
            async with asyncio.TaskGroup() as group:
                for tenant, client in clients.items():
                    for number, (src, tgt) in enumerate(CALLS, 1):
                        group.create_task(call(client, tenant, number, src, tgt, seen))
            refused = await refusals(acme, globex)
    apart = all(node.startswith(f"{tenant}-") for tenant, found in seen.nodes.items() for node in found)
    print(f"\n{seen.utterances} utterances of {2 * len(CALLS)} calls in {3 * seen.utterances} jobs")
    for tenant in LANGUAGES:
        print(f"{tenant}: {' '.join(sorted(seen.nodes[tenant]))}")
    print(f"a call changed its node {seen.moved} times")
    print(f"isolation held: {'yes' if apart and refused else 'NO'}")
    return apart and refused


def main() -> int:
    with server() as redis_url:
        fleet_command(
            "pools", "apply", "-f", str(Path(__file__).with_name("pools.toml")), "--yes", redis_url=redis_url
        )
        with replicas(redis_url, 2) as urls:
            return 0 if asyncio.run(run(redis_url, urls)) else 1


if __name__ == "__main__":
    sys.exit(main())
