"""The drawings in docs/images as a browser shows them: each word can be read in light and in dark, nothing else."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DRAWINGS = sorted(IMAGES.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
_ALLOWED = {"svg", "title", "desc", "style", "marker", "path", "rect", "circle", "text", "g"}
_MEASURE = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const box = (e) => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
  const rects = [...document.querySelectorAll("rect:not(.group)")];
  const view = box(document.querySelector("rect.card"));
  return {
    view,
    texts: [...document.querySelectorAll("text")].map((text) => {
      const [left, top, right, bottom] = box(text);
      const holds = (b) => b[0] <= left && b[1] <= top && b[2] >= right && b[3] >= bottom;
      const under = rects.filter((rect) => holds(box(rect)));
      const ground = light(getComputedStyle(under[under.length - 1]).fill), ink = light(getComputedStyle(text).fill);
      const contrast = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
      return { text: text.textContent, box: [left, top, right, bottom], contrast };
    }),
  };
}"""


def test_there_are_drawings() -> None:
    assert {path.stem for path in DRAWINGS} >= {"fleet", "request", "states"}


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_small_described_and_asks_for_nothing_elsewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    root = ET.fromstring(text)  # noqa: S314 - our own file
    assert len(text) < 8_192
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert {"viewBox", "width", "height"} <= root.attrib.keys()
    assert all((root.findtext(f"{SVG}{name}") or "").strip() for name in ("title", "desc"))
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= _ALLOWED
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    style = root.findtext(f"{SVG}style") or ""
    used = {name for each in root.iter() for name in each.get("class", "").split()} - {"state"}
    assert [name for name in used if f".{name} " not in style] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_every_word_of_a_drawing_can_be_read(browser: Browser, path: Path, scheme: Literal["light", "dark"]) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1_000, "height": 700})
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        told: dict[str, Any] = page.evaluate(_MEASURE)
    finally:
        context.close()
    left, top, right, bottom = told["view"]
    seen: list[tuple[str, list[float]]] = []
    assert len(told["texts"]) > 5
    for each in told["texts"]:
        box = each["box"]
        assert each["contrast"] >= 4.5, each
        assert left < box[0] < box[2] < right, each
        assert top < box[1] < box[3] < bottom, each
        for other, at in seen:
            apart = box[2] <= at[0] or at[2] <= box[0] or box[3] <= at[1] or at[3] <= box[1]
            assert apart, f"{each['text']!r} lies over {other!r}"
        seen.append((each["text"], box))
