"""How a page is read and compared: what may differ from the page, and what may not."""

import shutil
from pathlib import Path

import pytest

from tests.e2e import page
from tests.e2e.page import Terminal, plain_environ, shown, steps

SH = pytest.mark.skipif(shutil.which("sh") is None, reason="sh is not on PATH")


@pytest.mark.parametrize(
    ("told", "said", "exact"),
    [
        ("a 12\n", "a 7\n", False),
        ("a 12\n", "a 12\n", True),
        ("fence 1767225600123456\n", "fence 1795639842183394\n", True),
        ("1767225600123-0\n", "1795639842183-7\n", True),
        ("name  cpu\n", " name     cpu \n", True),
        ("a … c\n", "a b b c\n", True),
        ("a\n…\nc\n", "a\nb\nb\nc\n", True),
        ("…\nc\n", "c\n", True),
        ("\n", "\n", True),
    ],
)
def test_what_may_differ_from_the_page(told: str, said: str, *, exact: bool) -> None:
    shown(told, said, exact=exact)


@pytest.mark.parametrize(
    ("told", "said", "exact"),
    [
        ("a\n", "b\n", False),
        ("a 1\n", "a 0\n", True),
        ("a\nb\n", "b\na\n", False),
        ("a\n", "a\nb\n", False),
        ("a\nb\n", "a\n", False),
        ("a … c\n", "a b\n", False),
        ("a.c\n", "abc\n", False),
        ("\n", "a\n", True),
    ],
)
def test_what_may_not(told: str, said: str, *, exact: bool) -> None:
    with pytest.raises(AssertionError):
        shown(told, said, exact=exact)


def test_blocks_are_read_with_what_stands_around_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "DOCS", tmp_path)
    text = (
        "Put this into `a.py`:\n\n```python\nx\n```\n\nIn the first terminal:\n\n```sh\ny\n```\n\n```text\nz\n```\n"
    )
    (tmp_path / "p.md").write_text(f"{text}\nPress Ctrl-C in the first terminal.\n\n```text\nend\n```\n", "utf-8")
    file, typed, pressed = steps("p.md")
    assert (file.kind, file.file, file.text) == ("python", "a.py", "x\n")
    assert (typed.kind, typed.terminal, typed.text, typed.told) == ("sh", "first", "y\n", "z\n")
    assert (pressed.kind, pressed.text, pressed.told) == ("text", "", "end\n")
    assert "Ctrl-C" in pressed.said_before


@SH
def test_a_terminal_keeps_variables_and_folder_and_survives_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with Terminal(tmp_path, plain_environ()) as terminal:
        assert terminal.play("cd inner\nX=1") == ("", 0)
        assert terminal.play("basename $(pwd); echo $X; echo no >&2; false") == ("inner\n1\nno\n", 1)
        terminal.begin("sh -c 'echo there; exec sleep 60'")
        assert terminal.watch("there\n", 10) == "there\n"
        terminal.press_ctrl_c()
        assert terminal.rest(10)[1] == 130
        assert terminal.play("printf 'no line end'") == ("no line end", 0)


@SH
def test_a_terminal_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    with Terminal(tmp_path, plain_environ()) as terminal, pytest.raises(AssertionError, match="not within"):
        terminal.play("echo a; sleep 60", 0.2)
    with Terminal(tmp_path, plain_environ()) as terminal, pytest.raises(AssertionError, match="the shell ended"):
        terminal.play("exit 3", 10)
