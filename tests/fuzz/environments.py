"""Settings files and environments of any kind: sound settings, or BadInput that names what is wrong."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from scheduler.errors import BadInput
from scheduler.settings import SETTINGS, Settings, load_settings
from scheduler.store.address import Address, read_address, without_secrets
from tests.fuzz.odd import NUMBERS, TEXTS

_URLS = st.one_of(
    st.sampled_from(
        ["redis://h", "rediss://h:1/2", "unix:///s", "redis+cluster://a,b:2", "redis+sentinel://a/s/1",
         "redis://:p@h?db=x", "http://h", "redis://[::1", "redis://h:99999", "redis+sentinel://h", "://", "unix://"]
    ),
    st.text(max_size=20).map("redis://".__add__),
    st.text(alphabet=":/@?&=,[]%abc1.", max_size=30).map("redis+cluster://".__add__),
)  # fmt: skip
_NAMES = st.sampled_from(
    [*(variable for setting in SETTINGS.values() for variable in setting.variables), "FLEET_OTHER", "FLEET_", "OTHER"]
)
_TEXTS = st.one_of(TEXTS, _URLS, NUMBERS.map(str), st.integers(1, 2_000).map(str))
_TOML_VALUES = st.one_of(
    NUMBERS.map(str),
    st.integers(1, 2_000).map(str),
    st.sampled_from(["true", '""', "'x'", "[1]", "{a=1}", "1979-05-27", "nan", "0x10", "1_000", '"10"', "'''a'''"]),
    TEXTS.map(lambda text: f'"{text}"'),
)
_LINES = st.builds("{} = {}".format, st.one_of(st.sampled_from(sorted(SETTINGS)), st.text(max_size=6)), _TOML_VALUES)
_FILES = st.one_of(
    st.none(),
    st.lists(_LINES, max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"[table]\nrefresh_ms = 1\n", b"a = [" * 2_000, b"\xef\xbb\xbfrefresh_ms = 50", b"x = 1" * 9]
    ),
)


class Given(NamedTuple):
    environ: dict[str, str]
    file: bytes | None


CASES = st.builds(Given, st.dictionaries(_NAMES, _TEXTS, max_size=4), _FILES)


class Environments:
    """Judges what comes of an environment and a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fleet.toml"

    def judge(self, given: Given) -> str:
        environ: dict[str, Any] = dict(given.environ)
        if given.file is not None:
            self._file.write_bytes(given.file)
            environ["FLEET_CONFIG"] = str(self._file)
        try:
            settings = load_settings(environ)
            address = read_address(settings.redis_url)
        except BadInput as error:
            refused = error
        else:
            return _sound(settings, address)
        assert refused.field, refused
        assert refused.what, refused
        return "bad input"


def _sound(settings: Settings, address: Address) -> str:
    for setting in SETTINGS.values():
        value = getattr(settings, setting.name)
        if setting.low is not None and setting.high is not None:
            assert isinstance(value, int), setting
            assert setting.low <= value <= setting.high, setting
    password = address.options.get("password", "")
    shown = without_secrets(settings.redis_url)
    assert len(password) < 4 or password not in shown, shown
    return "sound"


def folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="fuzz-")
