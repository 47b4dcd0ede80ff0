"""deploy/kubernetes: valid for old and new servers, true to each other, and what the containers run really serves."""

import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scheduler.http.serving import listening
from scheduler.settings import Settings, load_settings
from tests.deploy.serving import VERSION, first_key, serving
from tests.e2e.conftest import FLEET

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
VALIDATE = Path(sys.executable).with_name("kubernetes-validate")
Document = dict[str, Any]


def manifests() -> dict[str, Document]:
    found = [yaml.safe_load(file.read_text("utf-8")) for file in FILES]
    return {document["kind"]: document for document in found}


DEPLOYMENT = manifests()["Deployment"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(REPLICA,) = POD["containers"]
SETTINGS: dict[str, str] = manifests()["ConfigMap"]["data"]

needs_schemas = pytest.mark.skipif(
    not VALIDATE.exists(), reason="kubernetes-validate is not installed (extra: deploy)"
)


def validate(version: str, *files: Path) -> "subprocess.CompletedProcess[str]":
    argv: list[str | Path] = [VALIDATE, "--strict", "-k", version, *files]
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)


@needs_schemas
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_each_manifest_is_valid(version: str) -> None:
    assert len(FILES) == len(manifests()) == 7
    done = validate(version, *FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed for resource ") + done.stderr.count(" passed for resource ") == len(FILES)


@needs_schemas
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("deployment.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("deployment.yaml", "terminationGracePeriodSeconds", "terminationGracePeriod"),
        ("deployment.yaml", "periodSeconds: 2", "periodSeconds: two"),
        ("disruption.yaml", "minAvailable", "minAvailabel"),
        ("autoscaler.yaml", "averageUtilization", "averageUtilisation"),
        ("network.yaml", "podSelector", "podSelektor"),
        ("library.yaml", "ttlSecondsAfterFinished", "ttlSecondsAfterFinish"),
    ],
)
def test_a_misspelt_field_is_not(file: str, right: str, wrong: str, tmp_path: Path) -> None:
    text = (FOLDER / file).read_text("utf-8")
    assert right in text
    broken = tmp_path / file
    broken.write_text(text.replace(right, wrong), "utf-8")
    assert validate("1.30", broken).returncode == 1


def test_all_of_them_mean_the_same_pods() -> None:
    found = manifests()
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    assert found["Job"]["spec"]["template"]["metadata"]["labels"] != labels
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", DEPLOYMENT["metadata"]["name"])
    (port,) = REPLICA["ports"]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert found["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]
    assert DEPLOYMENT["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(
        port["containerPort"]
    )
    least = found["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] < least == DEPLOYMENT["spec"]["replicas"]


def test_both_containers_run_this_version_without_any_privilege() -> None:
    job = manifests()["Job"]["spec"]["template"]["spec"]
    (library,) = job["containers"]
    for pod, container in ((POD, REPLICA), (job, library)):
        assert container["image"] == f"fleet-scheduler:{VERSION}"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        secret = container["env"][0]["valueFrom"]["secretKeyRef"]
        told = (FOLDER / "settings.yaml").read_text("utf-8")
        assert f"generic {secret['name']} " in told
        assert f"--from-literal={secret['key']}=" in told
        assert container["envFrom"][0]["configMapRef"]["name"] == manifests()["ConfigMap"]["metadata"]["name"]


def test_the_settings_are_settings() -> None:
    known = {f"FLEET_{name.upper()}" for name in Settings.__struct_fields__}
    assert SETTINGS
    assert SETTINGS.keys() <= known
    assert load_settings({**SETTINGS, "REDIS_URL": "redis://there"}).redis_url == "redis://there"


def test_a_replica_has_the_time_to_leave() -> None:
    (command, seconds) = REPLICA["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    unready = REPLICA["readinessProbe"]["periodSeconds"] * REPLICA["readinessProbe"]["failureThreshold"]
    assert int(seconds) > unready, "also a balancer that only looks at /readyz has noticed"

    async def nothing(*_: object) -> None: ...

    graceful = listening(nothing, "127.0.0.1", 1).timeout_graceful_shutdown
    assert graceful is not None
    assert POD["terminationGracePeriodSeconds"] >= int(seconds) + 2 * graceful


def test_the_containers_do_what_they_are_for(redis_url: str) -> None:
    (library,) = manifests()["Job"]["spec"]["template"]["spec"]["containers"]
    environ = {**SETTINGS, "REDIS_URL": redis_url}
    done = subprocess.run(
        [FLEET, *library["args"]], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    probes = [REPLICA[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert {probe["port"] for probe in probes} == {port["name"] for port in REPLICA["ports"]}
    port = REPLICA["ports"][0]["containerPort"]
    refused = subprocess.run(
        [FLEET, *REPLICA["args"]], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert (refused.returncode, "fleet apikeys create" in refused.stderr) == (2, True), "it waits for the first key"
    key = first_key(environ)
    with serving(REPLICA["args"], environ, probes=[probe["path"] for probe in probes], port=port) as (url, _):
        assert httpx.get(f"{url}/v1/cluster").status_code == 401
        assert httpx.get(f"{url}/v1/cluster", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_no_secret_is_in_them() -> None:
    assert "Secret" not in manifests()
    (library,) = manifests()["Job"]["spec"]["template"]["spec"]["containers"]
    assert [entry for entry in chain(REPLICA["env"], library["env"]) if "value" in entry] == []
