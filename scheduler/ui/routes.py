"""The one list of pages and of what they load; OpenAPI is for programs and does not name these."""

from scheduler.http.routes import Operation
from scheduler.ui import actions, explain, jobs, nodes, overview, pages, pools

_HTML = "text/html"

PAGES = (
    Operation("GET", "/", overview.overview, "The fleet at a glance", _HTML),
    Operation("GET", "/ui/nodes", nodes.nodes, "Nodes, searched and filtered", _HTML),
    Operation("GET", "/ui/nodes/{node}", nodes.node, "One node, its leases and events", _HTML),
    Operation("GET", "/ui/nodes/{node}/{mark}", actions.ask_mark, "Cordon, uncordon or drain? Asks first", _HTML),
    Operation("POST", "/ui/nodes/{node}/{mark}", actions.mark_node, "Cordon, uncordon or drain a node", _HTML),
    Operation("GET", "/ui/pools", pools.pools, "Pools, their members and fallbacks", _HTML),
    Operation("GET", "/ui/jobs", jobs.jobs, "Jobs that wait, that run and that ended lately", _HTML),
    Operation("GET", "/ui/jobs/{job}", jobs.job, "One job's story", _HTML),
    Operation("GET", "/ui/jobs/{job}/cancel", actions.ask_cancel, "Cancel a job? Asks first", _HTML),
    Operation("POST", "/ui/jobs/{job}/cancel", actions.cancel_job, "Cancel a job that has not ended", _HTML),
    Operation("GET", "/ui/explain", explain.explain, "Why a demand is placed or not", _HTML),
    Operation("GET", "/ui/course.json", overview.course, "What this replica did in five minutes", "application/json"),
    Operation("GET", "/ui/static/{file:path}", pages.static, "Style and scripts", "text/css"),
)
