"""The one list of pages and of what they load; OpenAPI is for programs and does not name these."""

from scheduler.http.routes import Operation
from scheduler.ui import overview, pages

PAGES = (
    Operation("GET", "/", overview.overview, "The fleet at a glance", "text/html"),
    Operation("GET", "/ui/course.json", overview.course, "What this replica did in five minutes", "application/json"),
    Operation("GET", "/ui/static/{file:path}", pages.static, "Style and scripts", "text/css"),
)
