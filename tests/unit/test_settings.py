from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from scheduler import settings
from scheduler.errors import BadInput
from scheduler.settings import Settings, load_settings


def test_nothing_set_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('refresh_ms = 500\nreap_ms = 300\nnamespace = "a"\n', "utf-8")
    environ = {"FLEET_CONFIG": str(file), "FLEET_REFRESH_MS": "100", "REDIS_URL": "redis://h", "OTHER": "x"}
    assert load_settings(environ) == Settings(redis_url="redis://h", refresh_ms=100, reap_ms=300, namespace="a")


@pytest.mark.parametrize("bad", ["", "x", "1.5", "-1", "9", "60001", "nan", "1e3", "\uff19\uff19", "1_000", " 99"])
def test_a_bad_number_names_the_setting_and_its_limits(bad: str) -> None:
    with pytest.raises(BadInput, match="refresh_ms must be a whole number from 10 to 60000"):
        load_settings({"FLEET_REFRESH_MS": bad})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("refresh = 1", "refresh is not a setting"),
        ("refresh_ms = true", "refresh_ms must be a whole number"),
        ("namespace = 7", "namespace must be text"),
        ('namespace = "a b"', "namespace must be 1 to 64 characters"),
        ('namespace = "a{0}"', "namespace must be 1 to 64 characters"),
        ("namespace = ", "FLEET_CONFIG cannot be read"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(BadInput, match=error):
        load_settings({"FLEET_CONFIG": str(file)})


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="FLEET_CONFIG cannot be read"):
        load_settings({"FLEET_CONFIG": str(tmp_path / "none.toml")})


class Chosen(msgspec.Struct):
    word: Annotated[Literal["on", "off"], Meta(description="a switch")] = "off"


def test_a_setting_of_words_takes_these_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    (field,) = msgspec.structs.fields(Chosen)
    monkeypatch.setitem(settings.SETTINGS, "word", settings._setting(field))
    assert settings.SETTINGS["word"].range == "on, off"
    assert settings._converted("word", "on") == "on"
    with pytest.raises(BadInput, match="word must be one of on, off"):
        settings._converted("word", "maybe")
