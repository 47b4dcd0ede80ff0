"""Joins the files of `lua/` into one chunk, in which Lua allows 200 locals at a time.

A function file's locals end with it. Of a shared file's, those that other files name are declared in front of it; the
rest ends with it too. No line moves, so that errors can be told by file and line.
"""

import re
from collections.abc import Mapping

_FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)
_VALUES = re.compile(r"^local (\w+(?:, \w+)*)(?= =|$)", re.MULTILINE)
_COMMENT = re.compile(r"--.*$", re.MULTILINE)


def _shared(name: str, text: str, words: Mapping[str, set[str]]) -> str:
    used = set[str]().union(*(named for file, named in words.items() if file != name))
    functions = [f for f in _FUNCTION.findall(text) if f in used]
    values = [group for group in _VALUES.findall(text) if used & set(group.split(", "))]
    for function in functions:
        text = re.sub(rf"^local function {function}\b", f"function {function}", text, flags=re.MULTILINE)
    for group in values:
        # a declaration without a value becomes nothing: it stands in front already
        text = re.sub(rf"^local {group}$", f"-- {group}", text, flags=re.MULTILINE)
        text = re.sub(rf"^local {group} =", f"{group} =", text, flags=re.MULTILINE)
    declared = ", ".join([*functions, *values])
    return f"{f'local {declared} ' if declared else ''}do {text}end\n"


def joined(prelude: str, shared: Mapping[str, str], functions: Mapping[str, str]) -> list[str]:
    """The parts of the chunk in order: the prelude as it is, the shared files, the function files."""
    # read once: with each shared file's own look at all others a start would take a tenth of a second longer
    words = {name: set(re.findall(r"\w+", _COMMENT.sub("", text))) for name, text in {**shared, **functions}.items()}
    return [
        prelude,
        *(_shared(name, text, words) for name, text in shared.items()),
        *(f"do {text}end\n" for text in functions.values()),
    ]
