"""Makes the pictures of docs/dashboard.md from a live demo fleet: `.venv/bin/python -m tests.ui.pictures`."""

import io
import subprocess
import time
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from scheduler.dev.process import spawn_bound, stop
from tests.e2e.conftest import FLEET, free_ports_in_a_row, wait_until
from tests.ui.conftest import ARGS, CHROMIUM, is_ready

FOLDER = Path(__file__).parents[2] / "docs" / "images"
DESK, PHONE = {"width": 1200, "height": 760}, {"width": 390, "height": 760}
COLOURS = 64
# Long enough for a line to be seen in the charts.
WARM_S = 30
POOLS = {
    "default": {"selector": {"all": True}},
    "zone-a": {"selector": {"labels": {"zone": "a"}}, "fallback": ["default"], "strategy": "pack", "priority": 5},
    "acme": {
        "selector": {"capabilities": ["llm"]},
        "fallback": ["zone-a"],
        "tenants": ["acme"],
        "priority": 9,
    },
}
NEVER = {"requires": ["asr:zh", "tts:fr"]}


def prepare(http: httpx.Client) -> None:
    """Pools with fallbacks, a node in each state, and jobs that wait for one that is away."""
    nodes = [node["id"] for node in http.get("/v1/nodes").raise_for_status().json()["nodes"]]
    for name, pool in POOLS.items():
        http.put(f"/v1/pools/{name}", json=pool).raise_for_status()
    http.post(f"/v1/nodes/{nodes[1]}/cordon").raise_for_status()
    http.post(f"/v1/nodes/{nodes[-1]}/drain", json={"drain_ms": 600_000}).raise_for_status()
    special = {"endpoint": "http://special:9000", "slots": 2, "capabilities": ["asr:zh", "studio"], "ttl_ms": 600_000}
    http.put("/v1/nodes/studio-01", json=special).raise_for_status()
    for number in range(5):
        body = {"requires": ["studio"], "wait_ms": 600_000, "ack_ms": 600_000, "id": f"take-{number}"}
        http.post("/v1/jobs", json=body).raise_for_status()


def picture(page: Page, name: str, *, whole: bool = False) -> None:
    """A small PNG of few colours."""
    with Image.open(io.BytesIO(page.screenshot(full_page=whole))) as shot:
        shot.convert("RGB").quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)
    print(FOLDER / f"{name}.png", (FOLDER / f"{name}.png").stat().st_size, "bytes")


def main() -> None:
    if CHROMIUM is None:
        raise SystemExit("no chromium on PATH: apt-get install chromium")
    port = free_ports_in_a_row(3)
    url = f"http://127.0.0.1:{port}"
    fleet = spawn_bound([str(FLEET), "dev", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(url), "the fleet is ready", 60)
        with httpx.Client(base_url=url, timeout=10) as http:
            wait_until(lambda: len(http.get("/v1/nodes").json()["nodes"]) == 24, "all nodes are there", 30)
            prepare(http)
        time.sleep(WARM_S)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)

            def opened(path: str, scheme: str, viewport: dict[str, int]) -> Page:
                context = browser.new_context(base_url=url, color_scheme=scheme, viewport=viewport)  # type: ignore[arg-type]
                page = context.new_page()
                page.goto(path)
                page.wait_for_function("() => document.querySelector('#live').textContent !== ''")
                return page

            overview = opened("/", "light", DESK)
            overview.locator("[data-chart=latency] canvas").wait_for(timeout=20_000)
            picture(overview, "dashboard-overview")
            picture(opened("/ui/nodes", "dark", DESK), "dashboard-nodes")
            picture(opened("/ui/pools", "light", DESK), "dashboard-pools")
            query = httpx.QueryParams({"requires": " ".join(NEVER["requires"])})
            picture(opened(f"/ui/explain?{query}", "light", DESK), "dashboard-explain")
            picture(opened("/ui/jobs", "dark", PHONE), "dashboard-phone")
            browser.close()
    finally:
        stop([fleet])


if __name__ == "__main__":
    main()
