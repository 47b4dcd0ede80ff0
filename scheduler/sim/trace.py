"""A trace of requests from a CSV file, checked line by line."""

import csv
from dataclasses import dataclass
from pathlib import Path

from scheduler.errors import BadInput

COLUMNS = ["arrival_ms", "session", "input_tokens", "output_tokens"]
REQUESTS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it comes, whose session it belongs to ('' = none), and how much work it is."""

    arrival_ms: float
    session: str
    input_tokens: int
    output_tokens: int


def service_s(request: Request, input_rate: float, output_rate: float) -> float:
    """How long a node works on it, in seconds, by the tokens that it reads and writes a second."""
    return request.input_tokens / input_rate + request.output_tokens / output_rate


def _number(file: Path, line: int, column: str, text: str, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= high:
        raise BadInput(f"{file}:{line}: {column}", f"must be a number from 0 to {high:.0f}, not {text!r}")
    return value


def read_trace(file: Path) -> list[Request]:
    """The requests in order of arrival; BadInput names the file, the line and the column."""
    requests: list[Request] = []
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream)
            if next(rows, None) != COLUMNS:
                raise BadInput(str(file), f"must begin with the line {','.join(COLUMNS)}")
            for line, row in enumerate(rows, 2):
                if len(row) != len(COLUMNS):
                    raise BadInput(f"{file}:{line}", f"must have {len(COLUMNS)} columns, has {len(row)}")
                arrival_ms = _number(file, line, "arrival_ms", row[0], 1e10)
                tokens = [int(_number(file, line, COLUMNS[i], row[i], 1e8)) for i in (2, 3)]
                requests.append(Request(arrival_ms, row[1], tokens[0], tokens[1]))
                if len(requests) > REQUESTS_MAX:
                    raise BadInput(str(file), f"must have at most {REQUESTS_MAX} requests")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(str(file), f"cannot be read: {error}") from error
    if not requests:
        raise BadInput(str(file), "has no requests")
    return sorted(requests, key=lambda request: request.arrival_ms)
