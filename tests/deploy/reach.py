"""Which commands each function can come to by its source, also on ways that no test goes."""

import re
from pathlib import Path

_BEGIN = re.compile(r"^(?:local )?function (\w+)|^define\('(\w+)'", re.MULTILINE)
_COMMENT = re.compile(r"--.*$", re.MULTILINE)
# the first argument of a call, which may be a choice between two
_CALLED = re.compile(r"redis\.call\(([^,)]*)")
_COMMAND = re.compile(r"'([A-Z]+)'")


def commands_of(folder: Path) -> dict[str, set[str]]:
    """Function of the library → commands. A name counts as called wherever it stands, so there may be too many."""
    bodies: dict[str, str] = {}
    entries = set()
    for path in folder.rglob("*.lua"):
        text = _COMMENT.sub("", path.read_text("utf-8"))
        begins = list(_BEGIN.finditer(text))
        for begin, following in zip(begins, [*begins[1:], None], strict=True):
            name = begin[1] or f"define {begin[2]}"
            entries |= {begin[2]} if begin[2] else set()
            bodies[name] = bodies.get(name, "") + text[begin.end() : following.start() if following else None]
    words = {name: set(re.findall(r"\w+", body)) & bodies.keys() for name, body in bodies.items()}
    commands = {
        name: {command.lower() for first in _CALLED.findall(body) for command in _COMMAND.findall(first)}
        for name, body in bodies.items()
    }

    def reached(entry: str) -> set[str]:
        seen, left = set(), [f"define {entry}"]
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += words[name]
        return set().union(*(commands[name] for name in seen))

    return {entry: reached(entry) for entry in entries}
