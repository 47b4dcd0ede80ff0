"""`fleet submit`: places one job over HTTP, and follows it to its end where that is wanted."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console

from scheduler.cli.settings import key_headers, key_hint, with_key
from scheduler.domain.job import ACK_MS, MAX_ATTEMPTS, PRIORITY, TIMEOUT_MS
from scheduler.errors import BadInput, ReplicaUnavailable

POLL_MS = 20_000
# A replica that is restarted meanwhile is asked again for so long.
AWAY_S, PAUSE_S = 30.0, 0.5
_ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})


def _payload(text: str | None) -> Any:
    """JSON as it is given, or from the file behind an @, or from stdin for @-."""
    if text is None:
        return None
    try:
        if text == "@-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text("utf-8")
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise BadInput("--payload", f"must be JSON, or @ and the name of a file with JSON: {error}") from error


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """The options as the body of POST /v1/jobs; what is not given is left out."""
    body = {name: value for name, value in given.items() if value is not None and value is not False}
    for name in ("requires", "services", "exclude"):
        if name in body:
            body[name] = body[name].split()
    if body.pop("no_fallback", False):
        body["fallback"] = False
    if (payload := body.pop("payload", None)) is not None:
        body["payload"] = _payload(payload)
    return body


def _answered(response: httpx.Response) -> dict[str, Any]:
    try:
        told: dict[str, Any] = response.json()
    except ValueError as error:
        raise ReplicaUnavailable(f"{response.url}: status {response.status_code}, and no JSON") from error
    return told


def _refused(status: int, problem: dict[str, Any]) -> int:
    """Say why on stderr; the exit status."""
    reasons = ", ".join(f"{name} {count}" for name, count in problem.get("reasons", {}).items())
    field = f" ({problem['field']})" if problem.get("field") else ""
    what = problem.get("class") or problem.get("title", "error").lower()
    told = f"{what}: {problem.get('detail', status)}{field}{f'; kept away: {reasons}' if reasons else ''}"
    told += key_hint(status)
    click.echo(f"fleet: {told}", err=True)
    return 2 if status in {400, 413, 415} or (status == 422 and "class" not in problem) else 1


def _followed(http: httpx.Client, job: str) -> dict[str, Any]:
    """The job once it has ended."""
    silent_since: float | None = None
    while True:
        try:
            answer = http.get(f"/v1/jobs/{job}", params={"wait_ms": POLL_MS}, timeout=POLL_MS / 1000 + 10)
            if answer.status_code < 500:
                told = _answered(answer)
                if answer.status_code != 200:
                    raise ReplicaUnavailable(f"{job}: {told.get('detail', answer.status_code)}")
                silent_since = None
                if told["job"]["state"] in _ENDED:
                    found: dict[str, Any] = told["job"]
                    return found
                continue
            said = str(answer.status_code)
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
        silent_since = silent_since or time.monotonic()
        if time.monotonic() - silent_since > AWAY_S:
            raise ReplicaUnavailable(f"{job} may be running, but no answer for {AWAY_S:.0f} s: {said}")
        time.sleep(PAUSE_S)


def _placed_line(job: dict[str, Any]) -> str:
    if job["node"] is None:
        return f"{job['id']} {'waits' if job['state'] == 'pending' else job['state']}"
    at = f" at {job['node']['endpoint']}" if job["node"]["endpoint"] else ""
    return f"{job['id']} {job['state']} on {job['node']['id']}{at}, pool {job['pool']}, fence {job['fence']}"


def _ended_line(job: dict[str, Any]) -> str:
    why = f" ({job['reason']})" if job["reason"] else ""
    after = job["ended_at_ms"] - job["created_at_ms"]
    return f"{job['state']}{why} after {after} ms{': ' + job['result'] if job['result'] else ''}"


@click.command()
@click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, help="a replica, or what stands before them"
)
@click.option("--tenant", help="whose job it is [default: the key's tenant, or default]")
@click.option("--requires", help='capabilities: "asr:zh gpu"')
@click.option("--services", help='language services: "asr nmt tts", with --src and --tgt')
@click.option("--src", help="language that is spoken, or auto")
@click.option("--tgt", help="language that is wanted")
@click.option("--pool", help="this pool and its fallbacks only")
@click.option("--no-fallback", is_flag=True, help="no fallbacks")
@click.option("--exclude", help="nodes to leave out")
@click.option("--session", help="what belongs together, with --affinity")
@click.option("--affinity", type=click.Choice(["none", "sticky", "spread"]))
@click.option("--id", help="the job's id: the same again is the same job")
@click.option("--payload", help="JSON, or @FILE, or @- for stdin")
@click.option("--deliver", type=click.Choice(["inbox", "direct"]))
@click.option("--priority", type=int, help=f"0 to 9 [default: {PRIORITY}]")
@click.option("--ack-ms", type=int, help=f"until a node must have begun [default: {ACK_MS}]")
@click.option("--timeout-ms", type=int, help=f"what an attempt may take [default: {TIMEOUT_MS}]")
@click.option("--wait-ms", type=int, help="how long it may wait for a slot [default: 0]")
@click.option("--max-attempts", type=int, help=f"[default: {MAX_ATTEMPTS}]")
@click.option("--retry-failed", is_flag=True, help="another attempt also where the handler failed")
@click.option("--wait", is_flag=True, help="follow it to its end")
@with_key
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")
def submit(
    url: str, tenant: str | None, api_key_file: str | None, *, wait: bool, as_json: bool, **given: Any
) -> None:
    """Place one job; a replica must run.

    Exit status 0 if it was placed or waits, with --wait if it succeeded; 1 if it was refused or did not succeed, with
    the reasons on stderr; 2 if the request is not good.
    """
    headers = key_headers(api_key_file) | ({} if tenant is None else {"x-fleet-tenant": tenant})
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=10) as http:
        try:
            answer = http.post("/v1/jobs", json=_body(given))
        except httpx.HTTPError as error:
            raise ReplicaUnavailable(f"{url}: {str(error) or type(error).__name__}") from error
        told = _answered(answer)
        if answer.status_code >= 400:
            if as_json:
                click.echo(json.dumps(told))
            raise click.exceptions.Exit(_refused(answer.status_code, told))
        if not as_json:
            click.echo(_placed_line(told["job"]))
        if not wait:
            if as_json:
                click.echo(json.dumps(told))
            return
        with Console(stderr=True).status(f"waiting for {told['job']['id']}"):
            job = _followed(http, told["job"]["id"])
    click.echo(json.dumps({"job": job}) if as_json else _ended_line(job))
    if job["state"] != "succeeded":
        raise click.exceptions.Exit(1)
