"""deploy/prometheus and deploy/grafana: promtool takes them, and a live replica exports every name in them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scheduler.dev.process import spawn_bound, stop
from tests.e2e.conftest import Replicas, free_ports_in_a_row, place, register, wait_until
from tests.e2e.test_documents import anchors
from tests.sharded import Shards

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "fleet.rules.yml").read_text("utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "fleet.json").read_text("utf-8"))
_NAME = re.compile(r"\bfleet_[a-z0-9_]+")
_RECORD = re.compile(r"\bfleet:[a-z0-9_:]+")
_LABEL = re.compile(r'(\w+)(?:=~?|!=)"([^"]*)"')
_BY = re.compile(r"by \(([^)]*)\)")
# of Prometheus itself
_THEIRS = {"job", "instance", "le", "alertname", "alertstate"}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules() -> Iterator[dict[str, str]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def dashboard_expressions() -> list[str]:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return targets + [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]


EXPRESSIONS = [rule["expr"] for rule in rules()] + dashboard_expressions()


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "fleet.rules.yml"],
        ["test", "rules", "fleet.rules.test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_takes_it(arguments: list[str]) -> None:
    argv = ["promtool", *arguments]
    done = subprocess.run(argv, cwd=PROMETHEUS, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    records = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(dashboard_expressions())]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": records}]}), "utf-8")
    argv = ["promtool", "check", "rules", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_that_sees_it_fire() -> None:
    told = (PROMETHEUS / "fleet.rules.test.yml").read_text("utf-8")
    alerts = [rule["alert"] for rule in rules() if "alert" in rule]
    assert len(alerts) > 10
    assert [alert for alert in alerts if f'alertname="{alert}"' not in told] == []


def test_each_alert_leads_to_a_section_of_operations_that_names_it() -> None:
    page = DEPLOY.parent / "docs" / "operations.md"
    table = page.read_text("utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "Fleet" in line]
    for rule in (rule for rule in rules() if "alert" in rule):
        labels: Any = rule["labels"]
        annotations: Any = rule["annotations"]
        file, _, section = annotations["runbook_url"].partition("#")
        assert DEPLOY.parent / file == page
        assert section in anchors(page), rule["alert"]
        (row,) = (row for row in rows if re.search(rf"\b{rule['alert']}\b", row))
        assert f"(#{section})" in row, rule["alert"]
        assert (f"**{rule['alert']}**" in row) == (labels["severity"] == "critical"), rule["alert"]


def test_rules_and_dashboard_name_only_what_a_live_replica_exports(http: httpx.Client, client: redis.Redis) -> None:
    register(Shards(client), "n1", "a")
    assert place(http, "a").status_code == 201
    names: set[str] = set()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            names.add(sample.name)
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    recorded = {rule["record"] for rule in rules() if "record" in rule}

    used = {name for expr in EXPRESSIONS for name in _NAME.findall(expr)}
    assert len(used) > 8
    assert used <= names
    assert {name for expr in EXPRESSIONS for name in _RECORD.findall(expr)} <= recorded
    for label, value in (pair for expr in EXPRESSIONS for pair in _LABEL.findall(expr)):
        if label not in _THEIRS:
            assert label in labels, label
            assert value in labels[label] or label == "status", f"{label}={value}"
    grouped = {label.strip() for expr in EXPRESSIONS for by in _BY.findall(expr) for label in by.split(",")}
    assert grouped <= labels.keys() | _THEIRS


def test_the_series_that_the_rules_are_tested_with_have_true_names(http: httpx.Client) -> None:
    tests = yaml.safe_load((PROMETHEUS / "fleet.rules.test.yml").read_text("utf-8"))["tests"]
    series = {_NAME.match(entry["series"]) for test in tests for entry in test["input_series"]}
    names = {s.name for family in text_string_to_metric_families(http.get("/metrics").text) for s in family.samples}
    fleet = {found[0] for found in series if found}
    # counted by what was answered, so there is none before the first answer
    assert fleet - names <= {"fleet_http_requests_total"}
    assert len(fleet) > 8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_asks_three_replicas_and_evaluates_every_rule(
    replicas: Replicas, client: redis.Redis, tmp_path: Path
) -> None:
    urls = replicas(3)
    register(Shards(client), "n1", "a")
    config = (PROMETHEUS / "prometheus.yml").read_text("utf-8").replace("interval: 5s", "interval: 1s")
    for number, url in enumerate(urls, 1):
        assert f"replica{number}:8080" in config
        config = config.replace(f"replica{number}:8080", url.removeprefix("http://"))
    (tmp_path / "prometheus.yml").write_text(config, "utf-8")
    shutil.copy(PROMETHEUS / "fleet.rules.yml", tmp_path)
    port = free_ports_in_a_row(1)
    ours = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "web.listen-address": f"127.0.0.1:{port}"}
    argv = ["prometheus", *(f"--{name}={value}" for name, value in ours.items())]
    process = spawn_bound(argv, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10) as api:

            def value(expression: str) -> float | None:
                assert process.poll() is None
                for url in urls:
                    assert httpx.post(f"{url}/v1/jobs", json={"requires": ["a"], "deliver": "direct"}).is_success
                found = api.get("/query", params={"query": expression}).json()["data"]["result"]
                return float(found[0]["value"][1]) if found else None

            def ready() -> bool:
                assert process.poll() is None
                try:
                    return api.get(f"http://127.0.0.1:{port}/-/ready").is_success
                except httpx.TransportError:
                    return False

            # it listens before it answers: 503 until its storage is open
            wait_until(ready, "Prometheus is ready", 30)
            wait_until(lambda: value('sum(up{job="fleet"})') == 3, "three replicas are asked", 30)
            wait_until(lambda: (value("fleet:placements:rate5m") or 0) > 0, "the rules see placements", 20)
            wait_until(lambda: (value("fleet:claim_seconds:p99_5m") or 0) > 0, "and how long they take", 20)
            known = [rule for group in api.get("/rules").json()["data"]["groups"] for rule in group["rules"]]
            assert len(known) == len(list(rules()))
            assert {rule["health"] for rule in known} <= {"ok", "unknown"}
            assert [rule["name"] for rule in known if rule.get("state") == "firing"] == []
    finally:
        stop([process])


def test_grafana_finds_the_source_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text("utf-8"))["datasources"]
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert uids == {source["uid"]}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place_ in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place_["x"], place_["x"] + place_["w"])
        for y in range(place_["y"], place_["y"] + place_["h"])
    ]
    assert len(set(cells)) == len(cells), "no panel lies over another"
    assert max(x for x, _ in cells) < 24
