"""Reads the dashboard's explain page back into what it says."""

from html.parser import HTMLParser
from typing import Any


class _Reader(HTMLParser):
    """The class of the verdict, the text of the near miss, and the cells of each row by section and key."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict = ""
        self.near: str | None = None
        self.rows: dict[str, dict[str, list[str]]] = {"reasons": {}, "pools": {}, "nodes": {}}
        self._section, self._key, self._in_near, self._in_cell = "", "", False, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        match tag:
            case "section":
                self._section = given.get("aria-labelledby", "")
            case "p" if "data-class" in given:
                self.verdict = given["data-class"]
            case "p" if given.get("id") == "near":
                self._in_near, self.near = True, ""
            case "tr" if "data-key" in given and self._section in self.rows:
                self._key = given["data-key"]
                self.rows[self._section][self._key] = []
            case "td" | "th" if self._key:
                self._in_cell = True
                self.rows[self._section][self._key].append("")
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "p":
                self._in_near = False
            case "td" | "th":
                self._in_cell = False
            case "tr":
                self._key = ""
            case _:
                pass

    def handle_data(self, data: str) -> None:
        if self._in_near:
            self.near = (self.near or "") + data
        if self._key and self._in_cell:
            self.rows[self._section][self._key][-1] += data


def read(page: str) -> dict[str, Any]:
    """What the page says, row by row, each text with single spaces."""
    reader = _Reader()
    reader.feed(page)
    rows = {
        section: {key: [" ".join(cell.split()) for cell in cells] for key, cells in found.items()}
        for section, found in reader.rows.items()
    }
    near = None if reader.near is None else " ".join(reader.near.split())
    return {"class": reader.verdict, "near": near, **rows}
