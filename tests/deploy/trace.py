"""Every command that functions run, seen by MONITOR; as a pytest plugin it watches the server of a whole suite."""

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scheduler.dev.server import EmbeddedServer

FOLDER = "FLEET_TRACE_FOLDER"
_LINE = re.compile(rb'^\+[0-9.]+ \[\d+ (\S+)\] (".*")\r$')
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|.)")
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_CALL = re.compile(rb'"fcall(?:_ro)?" "fleet1_(\w+)"', re.IGNORECASE)
_KEY = re.compile(rb'"(fleet:\{\w+\})(:[a-z]+)?((?::[^"]*?)?)(:leases|:inbox|:ending)?"')


class Ran(NamedTuple):
    """A command that a function ran; commands of one kind differ in ids and values alone."""

    function: str
    kind: str
    words: list[str]


def _plain(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _NAMED.get(code, code)


def _words(text: bytes) -> list[str]:
    return [_ESCAPED.sub(_plain, word).decode("utf-8", "replace") for word in _WORD.findall(text)]


class Trace:
    """Reads MONITOR in a thread. Of each kind of command, by function and keys, it keeps the first."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.sendall(b"MONITOR\r\n")
        self._lines = self._socket.makefile("rb")
        assert self._lines.readline() == b"+OK\r\n"
        # nothing need happen for a while
        self._socket.settimeout(None)
        self._end = f"end of trace {id(self)}".encode()
        self._seen: dict[tuple[str, str], list[str]] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        function = ""
        for line in self._lines:
            found = _LINE.match(line)
            if found is None:
                continue
            text = found[2]
            if found[1] not in {b"lua", b"script"}:
                if self._end in text:
                    return
                called = _CALL.match(text)
                function = called[1].decode() if called else ""
                continue
            # told apart by the names of the keys without their ids
            keys = b" ".join(name + ending for _, name, _, ending in _KEY.findall(text))
            kind = (function, (text[1 : text.find(b'"', 1)].lower() + b" " + keys).decode())
            if function and kind not in self._seen:
                self._seen[kind] = _words(text)

    def end(self) -> list[Ran]:
        """All that was called until now."""
        with socket.create_connection(self._socket.getpeername(), timeout=30) as marker:
            marker.sendall(b'ECHO "' + self._end + b'"\r\n')
            marker.recv(100)
            self._thread.join(60)
        assert not self._thread.is_alive()
        self._lines.close()
        self._socket.close()
        return [Ran(function, kind, words) for (function, kind), words in self._seen.items()]


@pytest.fixture(scope="session", autouse=True)
def traced(server: EmbeddedServer) -> Iterator[None]:
    """All that this test process does to its server is written into the folder that the environment names."""
    trace = Trace(server.port)
    yield
    Path(os.environ[FOLDER], f"{os.getpid()}.json").write_text(json.dumps(trace.end()), "utf-8")


def read_traces(folder: Path) -> list[Ran]:
    return [Ran(*ran) for file in folder.glob("*.json") for ran in json.loads(file.read_text("utf-8"))]
