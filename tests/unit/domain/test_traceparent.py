import pytest

from scheduler.domain.traceparent import traceparent_in

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "given", [GOOD, "cc" + GOOD[2:], "01" + GOOD[2:] + "-what-a-later-version-adds", "01" + GOOD[2:] + "-"]
)
def test_a_good_one_is_told_as_version_00(given: str) -> None:
    assert traceparent_in(given) == GOOD


@pytest.mark.parametrize(
    "given",
    [
        "",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-",
        GOOD + "\n",
        "ff" + GOOD[2:],
        "01" + GOOD[2:] + "0",
        GOOD.upper(),
        " " + GOOD,
        f"{GOOD},{GOOD}",
        GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        GOOD.replace("b7ad6b7169203331", "0" * 16),
        "\u0660" + GOOD[1:],
        "x" * 10_000,
    ],
)
def test_anything_else_is_none(given: str) -> None:
    assert traceparent_in(given) == ""
