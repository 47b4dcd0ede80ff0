"""`fleet simulate`: tables, JSON and plots as a person gets them, and each bad option told by its name."""

import json
from pathlib import Path

import pytest

from scheduler.cli.main import main
from scheduler.sim.policies import POLICIES

SMALL = ("--nodes", "30", "--jobs", "200")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ending:
        main(["simulate", *words])
    said = capsys.readouterr()
    return int(ending.value.code or 0), said.out, said.err


def test_the_table_has_a_line_for_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *SMALL)
    assert status == 0
    assert err.startswith("simulated in ")
    lines = out.splitlines()
    assert lines[0] == ("nodes 30, replicas 8, refresh ms 200, d 3, slots 4, poisson, load 0.85, exponential 1000 ms")
    assert [line.split()[0] for line in lines[-len(POLICIES) :]] == list(POLICIES)


def test_several_values_make_a_table_each(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, *SMALL, "--d", "1,3", "--policies", "ours,random", "--slots", "2-6")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("nodes 30, replicas 8, refresh ms 200, slots 2 to 6, ")
    assert [line for line in lines if line in {"d 1", "d 3"}] == ["d 1", "d 3"]
    assert sum(line.startswith("ours ") for line in lines) == 2


def test_json_is_alone_on_stdout_and_the_same_for_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = (*SMALL, "--json", "--arrivals", "bursts", "--service", "lognormal", "--policies", "ours,omniscient")
    status, out, _ = run(capsys, *words)
    assert status == 0
    told = json.loads(out)
    assert [outcome["policy"] for outcome in told] == ["ours", "omniscient"]
    assert all(outcome["placed"] + outcome["refused"] == 200 for outcome in told)
    assert run(capsys, *words)[1] == out


def test_a_trace_and_a_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace, plot = tmp_path / "trace.csv", tmp_path / "plot.png"
    rows = [f"{i * 100},s{i % 3},20000,50" for i in range(40)]
    trace.write_text("\n".join(["arrival_ms,session,input_tokens,output_tokens", *rows, ""]), "utf-8")
    status, out, _ = run(capsys, "--trace", str(trace), "--nodes", "4,8", "--plot", str(plot))
    assert status == 0
    assert out.startswith("replicas 8, refresh ms 200, d 3, slots 4, trace trace.csv\n")
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--nodes 0", "--nodes must be a whole number from 1 to 100,000, not '0'"),
        ("--nodes 10,100001", "--nodes must be a whole number from 1 to 100,000, not '100001'"),
        ("--nodes 10,,20", "--nodes must be a whole number from 1 to 100,000, not ''"),
        ("--slots many", "--slots must be a whole number from 1 to 10,000, not 'many'"),
        ("--slots 8-2", "--slots must be a number, or the lower and the higher as in 2-8, not '8-2'"),
        ("--slots 2-", "--slots must be a whole number from 1 to 10,000, not ''"),
        ("--replicas 65", "--replicas must be a whole number from 1 to 64, not '65'"),
        ("--refresh-ms 9", "--refresh-ms must be a whole number from 10 to 60,000, not '9'"),
        ("--heartbeat-ms 1", "--heartbeat-ms must be a number from 10 to 60,000"),
        ("--rtt-ms 2000", "--rtt-ms must be a number from 0 to 1,000"),
        ("--load nan", "--load must be a number from 0.001 to 2"),
        ("--load 3", "--load must be a number from 0.001 to 2"),
        ("--service-ms 0", "--service-ms must be a number from 1 to 3,600,000"),
        ("--burst 0", "--burst must be a number from 1 to 100,000"),
        ("--d 17", "--d must be a whole number from 1 to 16, not '17'"),
        ("--d ²", "--d must be a whole number from 1 to 16, not '²'"),
        ("--jobs 0", "--jobs must be a number from 1 to 10,000,000"),
        ("--seconds 0", "--seconds must be a number from 0.01 to 86,400"),
        ("--seconds 1 --jobs 5", "--seconds must not be given together with --jobs"),
        ("--trace no.csv --jobs 5", "--trace must not be given together with --jobs or --seconds"),
        ("--trace no.csv", "no.csv cannot be read: [Errno 2] No such file or directory: 'no.csv'"),
        ("--input-rate 0", "--input-rate must be a number from 1 to 1,000,000,000"),
        ("--output-rate 0", "--output-rate must be a number from 0.1 to 1,000,000,000"),
        ("--policies ours,best", f"--policies must be of {','.join(POLICIES)}: there is no 'best'"),
        ("--seed -1", "--seed must be a number from 0 to 4,294,967,296"),
        ("--plot p.pdf", "--plot must name a file that ends in .png, not 'p.pdf'"),
        (
            "--d 1,2,3,4,5,6 --replicas 1,2,3,4,5,6,7",
            "--policies must be at most 256 with all values combined, not 294",
        ),
    ],
)
def test_a_bad_option_is_told_with_its_limit(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *words.split(), "--json") == (2, "", f"fleet: Bad input: {said}\n")


@pytest.mark.parametrize("words", ["--service gamma", "--arrivals never", "--jobs 1.5", "--seed x"])
def test_an_option_of_another_kind_is_told_by_the_parser(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *words.split(), "--json")
    assert (status, out) == (2, "")
    assert f"'{words.split(maxsplit=1)[0]}'" in err
