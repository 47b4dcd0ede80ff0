"""axe-core on a page: what it finds against the rules for everybody's access."""

from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

# The package is only the box in which axe-core comes.
SOURCE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
_RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


def violations(page: Page) -> list[str]:
    """Rule and place of each finding; none is how it should be."""
    page.evaluate(SOURCE)
    found: list[dict[str, Any]] = page.evaluate(_RUN)
    return [f"{rule['id']} at {node['target']}: {node['failureSummary']}" for rule in found for node in rule["nodes"]]
