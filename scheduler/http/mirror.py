"""GET /v1/mirror: what this replica believes of the nodes, to be held against Redis; asks Redis nothing."""

import bisect
import heapq
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.ids import NodeId, checked_id
from scheduler.engine.engine import Engine
from scheduler.http.answers import MirrorAnswer, MirroredNode, MirroredShard
from scheduler.http.body import answer, number_query
from scheduler.placement.snapshot import Snapshot


def _node(snapshot: Snapshot, node_id: NodeId) -> MirroredNode:
    position = snapshot.positions[node_id]
    node = snapshot.node(position)
    return MirroredNode(
        id=node_id,
        state=node.state,
        slots=node.slots,
        free=snapshot.free[position],
        structure=node.structure,
        offered=sorted(node.shape.offered),
        pools=sorted(node.shape.pools),
        over=node.over,
        quarantined=node.quarantined,
    )


async def get_mirror(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    after = request.query_params.get("after", "")
    if after:
        checked_id("after", after)
    limit = number_query(request, "limit", 200, 1, 1_000)
    mirrors = {shard.tag: shard.mirror for shard in engine.shards}
    snapshots = [mirror.snapshot for mirror in mirrors.values()]
    begun = (
        [(node, snapshot) for node in islice(snapshot.ids, start, start + limit + 1)]
        for snapshot in snapshots
        for start in [bisect.bisect_right(snapshot.ids, after)]
    )
    page = list(islice(heapq.merge(*begun, key=lambda pair: pair[0]), limit + 1))
    shards = {
        tag: MirroredShard(
            m.filled, m.age_ms, m.snapshot.version, m.snapshot.structure_version, m.snapshot.config_version
        )
        for tag, m in mirrors.items()
    }
    nodes = [_node(snapshot, node) for node, snapshot in page[:limit]]
    return answer(request, MirrorAnswer(nodes, page[limit - 1][0] if len(page) > limit else None, shards))
