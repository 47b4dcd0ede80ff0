"""The one list of pages and of what they load; OpenAPI is for programs and does not name these."""

from scheduler.http.access import Endpoint, guarded
from scheduler.http.routes import OPERATES, READS, Operation
from scheduler.ui import actions, explain, jobs, nodes, overview, pages, pools, sessions
from scheduler.ui.forms import SIGN_IN

_HTML = "text/html"

PAGES = (
    Operation("GET", "/", overview.overview, "The fleet at a glance", _HTML, roles=READS),
    Operation("GET", "/ui/nodes", nodes.nodes, "Nodes, searched and filtered", _HTML, roles=READS),
    Operation("GET", "/ui/nodes/{node}", nodes.node, "One node, its leases and events", _HTML, roles=READS),
    Operation("GET", "/ui/nodes/{node}/{mark}", actions.ask_mark, "Cordon, uncordon or drain? Asks first", _HTML,
              roles=OPERATES),
    Operation("POST", "/ui/nodes/{node}/{mark}", actions.mark_node, "Cordon, uncordon or drain a node", _HTML,
              roles=OPERATES),
    Operation("GET", "/ui/pools", pools.pools, "Pools, their members and fallbacks", _HTML, roles=READS),
    Operation("GET", "/ui/jobs", jobs.jobs, "Jobs that wait, that run and that ended lately", _HTML, roles=READS),
    Operation("GET", "/ui/jobs/{job}", jobs.job, "One job's story", _HTML, roles=READS),
    Operation("GET", "/ui/jobs/{job}/cancel", actions.ask_cancel, "Cancel a job? Asks first", _HTML, roles=READS),
    Operation("POST", "/ui/jobs/{job}/cancel", actions.cancel_job, "Cancel a job that has not ended", _HTML,
              roles=READS),
    Operation("GET", "/ui/explain", explain.explain, "Why a demand is placed or not", _HTML, roles=READS),
    Operation("GET", "/ui/course.json", overview.course, "What this replica did in five minutes", "application/json",
              roles=OPERATES, whole=True),
    Operation("GET", "/ui/static/{file:path}", pages.static, "Style and scripts", "text/css", roles=None),
    Operation("GET", SIGN_IN, sessions.ask_sign_in, "Asks for an API key", _HTML, roles=None),
    Operation("POST", SIGN_IN, sessions.sign_in, "A session of this browser's own", _HTML, roles=None),
    Operation("POST", "/ui/sign-out", sessions.sign_out, "The session ends", _HTML, roles=READS),
)  # fmt: skip


def page_of(operation: Operation) -> Endpoint:
    """The page for those who may see it."""
    if operation.roles is None:
        return operation.endpoint
    return pages.page(guarded(operation.endpoint, operation.roles, whole=operation.whole, audited=operation.audited))
