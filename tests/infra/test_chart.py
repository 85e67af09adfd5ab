"""The Helm chart, as far as it can be proven without a cluster: rendered by Helm's own code, held against Kubernetes'
own schemas, and against what the server really takes, tells and waits for.

Custom resources (KEDA's, PodMonitor) have no schemas in kubernetes-validate: what is asserted of them here was written
by hand, after their definitions.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import helm_python
import kubernetes_validate
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from starlette.testclient import TestClient
from typer.main import get_command

from tests.conftest import REPOSITORY
from tests.serving.test_app import Echo
from tunewright.auth.identity import Provider
from tunewright.cli.app import command_line
from tunewright.core.limits import MOST_UNDER_WAY
from tunewright.core.version import __version__
from tunewright.inference.runtimes.vllm_guard import _SECONDS as VLLM_SECONDS
from tunewright.inference.runtimes.vllm_model import _READY_SECONDS as VLLM_READY_SECONDS
from tunewright.serving.app import build_app
from tunewright.serving.hosts import OneModel
from tunewright.serving.server import DRAIN_SECONDS

cli = command_line()

Object = dict[str, Any]

CHART = REPOSITORY / "infra" / "chart"
PAGE = (REPOSITORY / "docs" / "azure-kubernetes.md").read_text("utf-8")
VALUES = (CHART / "values.yaml").read_text("utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
TEMPLATES = "".join(path.read_text("utf-8") for path in sorted((CHART / "templates").iterdir()))
VERSIONS = ("1.30", kubernetes_validate.latest_version())
"""The oldest Kubernetes that the chart takes, and the newest that is known here."""
CUSTOM = {"ScaledObject", "TriggerAuthentication", "PodMonitor"}
NAMESPACE = "models"

IMAGE, NEXT = f"acme.azurecr.io/tickets@sha256:{'1' * 64}", f"acme.azurecr.io/tickets:2@sha256:{'2' * 64}"
CLIENT = "11111111-2222-3333-4444-555555555555"
PROMETHEUS = "https://acme.eastus.prometheus.monitor.azure.com"
STABLE: Object = {"stable": {"image": IMAGE}}
CANARY: Object = {"stable": {"image": IMAGE, "replicas": 9}, "canary": {"image": NEXT, "replicas": 1}}
KEDA: Object = {"by": "keda", "maxReplicas": 20, "prometheus": PROMETHEUS}
KEYS: Object = {"auth": {"keysSecret": "tickets-keys"}}
INGRESS: Object = {"enabled": True, "className": "azure-alb-external", "host": "tickets.acme.com", "tlsSecret": "tls"}
ENTRA: Object = {
    "auth": {
        "identity": {
            "issuer": "https://login.microsoftonline.com/tenant/v2.0",
            "audience": CLIENT,
            "grants": [
                {"role": "Tunewright.Ask", "models": ["tickets"], "per_minute": 600},
                {"role": "Tunewright.Admin"},
            ],
        }
    },
    "networkPolicy": {"egress": [{"cidr": "0.0.0.0/0", "ports": [443]}]},
}
SERVERS: dict[str, Object] = {
    "cpu": STABLE,
    "onnxruntime": STABLE | {"engine": "onnxruntime", "cpu": {"cores": 4, "tolerations": [{"key": "spot"}]}},
    "gpu": STABLE | {"engine": "vllm", "autoscaling": {"by": "none"}},
    "gpu with keda": STABLE | {"engine": "vllm", "autoscaling": KEDA},
    "canary": CANARY | {"autoscaling": {"maxReplicas": 20}},
    "canary with keda": CANARY | {"autoscaling": KEDA | {"prometheusClientId": CLIENT}},
    "blue and green": CANARY | {"traffic": "stable", "autoscaling": {"by": "none"}},
    "green alone": {"stable": {"replicas": 0}, "canary": {"image": NEXT, "replicas": 2}, "traffic": "canary"},
    "keda off": STABLE | {"autoscaling": {"by": "cpu"}},
    "unscaled": STABLE | {"autoscaling": {"by": "none"}},
    "workload identity": STABLE | {"workloadIdentity": {"clientId": CLIENT}},
    "captures": STABLE | {"captures": {"enabled": True}},
    "claimed captures": STABLE | {"captures": {"enabled": True, "claim": "journal"}},
    "entra": STABLE | ENTRA,
    "ingress": STABLE | KEYS | {"ingress": INGRESS | {"namespace": "gate", "annotations": {"size": "24m"}}},
    "controller outside": STABLE | KEYS | {"ingress": INGRESS, "networkPolicy": {"cidrs": ["10.1.0.0/24"]}},
    "metrics": STABLE | {"metrics": {"podMonitor": "azmonitoring.coreos.com/v1"}},
    "open network": STABLE | {"networkPolicy": {"enabled": False}},
}


def merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> Object:
    """As Helm puts one file of values on another."""
    mixed = dict(values)
    for key, value in others.items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        mixed[key] = merged(values[key], value) if both else value
    return mixed


GATEWAY = merged(YAML(typ="safe").load(REPOSITORY / "infra" / "gateway" / "values.yaml"), STABLE)
"""The value set of the gateway, with an image."""
JOBS: Object = {"gateway": {"settings": {"jobs": {"tickets": {"project": "/data/tickets"}}}}}
ALONE: Object = {
    "gateway": {"settings": {"database": None}},
    "stable": {"replicas": 1},
    "autoscaling": {"by": "none"},
}
"""What infra/gateway/values.yaml names for one pod with SQLite."""
GATEWAYS: dict[str, Object] = {
    "gateways": GATEWAY,
    "gateways with jobs": merged(GATEWAY, merged(JOBS, {"gateway": {"projectsClaim": "projects"}})),
    "gateway alone": merged(merged(GATEWAY, JOBS), ALONE),
    "gateways without a store": merged(GATEWAY, {"gateway": {"settings": {"database": None}}}),
    "gateway without keys": {
        "engine": "gateway",
        "stable": {"image": IMAGE},
        "gateway": {"settings": {"upstreams": {"openai": {"url": "openai"}}}},
        "networkPolicy": {"egress": [{"cidr": "0.0.0.0/0", "ports": [443]}]},
    },
    "gateway with a canary": merged(
        GATEWAY, {"canary": {"image": NEXT, "replicas": 1}, "stable": {"replicas": 3}, "traffic": "stable"}
    ),
    "gateway with entra": merged(
        GATEWAY,
        {
            "gateway": {
                "settings": {"upstreams": {"azure": {"url": "https://acme.openai.azure.com", "key": "entra"}}},
            },
            "workloadIdentity": {"clientId": CLIENT},
        },
    ),
    "gateway outside of the cluster": merged(
        GATEWAY,
        {
            "ingress": INGRESS | {"namespace": "gate"},
            "metrics": {"podMonitor": "monitoring.coreos.com/v1"},
            "networkPolicy": {"egress": [{"cidr": "0.0.0.0/0", "ports": [443]}, {"namespace": "db", "ports": [5432]}]},
        },
    ),
}
CASES = SERVERS | GATEWAYS


def render(values: Object, name: str = "tickets") -> list[Object]:
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace=NAMESPACE)
    return [each for text in files.values() for each in YAML(typ="safe").load_all(text) if each]


@cache
def made(case: str) -> list[Object]:
    return render(CASES[case])


def of(case: str, kind: str) -> dict[str, Object]:
    """Objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in made(case) if each["kind"] == kind}


def pods(case: str) -> list[Object]:
    return [each["spec"]["template"] for each in of(case, "Deployment").values()]


def server(pod: Object) -> Object:
    (container,) = pod["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_to_say(case: str) -> None:
    report = helm_python.lint(CHART, CASES[case], strict=True, namespace=NAMESPACE)
    assert not report["errors"]
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_everything(case: str) -> None:
    for each in made(case):
        if each["kind"] not in CUSTOM:
            for version in VERSIONS:
                check(json.dumps(each), version)


@cache
def check(written: str, version: str) -> None:
    """Many sets of values make the same object."""
    kubernetes_validate.validate(json.loads(written), version, strict=True)


def test_an_unknown_property_would_be_seen() -> None:
    wrong = copy.deepcopy(of("cpu", "Deployment")["tickets-stable"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readonlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def pod_faults(pod: Object) -> Iterator[str]:
    """What an attacker in a pod could use."""
    spec, container = pod["spec"], server(pod)
    settings = {**spec["securityContext"], **container["securityContext"]}
    wanted = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    yield from (key for key, value in wanted.items() if settings.get(key) != value)
    yield from (key for key in ("automountServiceAccountToken", "enableServiceLinks") if spec.get(key) is not False)
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers") if key in spec)
    yield from (volume["name"] for volume in spec["volumes"] if "hostPath" in volume or "projected" in volume)
    folders = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume}
    yield from (f"{name} has no bound" for name, folder in folders.items() if "sizeLimit" not in folder)
    resources = container["resources"]
    if resources.get("requests") != resources.get("limits") or not {"cpu", "memory"} <= resources["limits"].keys():
        yield "resources"
    yield from (each["name"] for each in container.get("env", []) if "valueFrom" in each)


@pytest.mark.parametrize("case", CASES)
def test_pods_may_do_nothing_they_need_not(case: str) -> None:
    assert pods(case)
    for pod in pods(case):
        assert not list(pod_faults(pod))
    for account in of(case, "ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("key", ["runAsNonRoot", "readOnlyRootFilesystem", "capabilities", "seccompProfile"])
def test_a_missing_restriction_would_be_seen(key: str) -> None:
    pod = copy.deepcopy(pods("cpu")[0])
    for context in (pod["spec"]["securityContext"], pod["spec"]["containers"][0]["securityContext"]):
        context.pop(key, None)
    assert list(pod_faults(pod)) == [key]


def test_the_images_user_is_the_pods() -> None:
    dockerfile = (REPOSITORY / "infra" / "docker" / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"--uid (\d+)|^USER (\d+)", dockerfile, re.MULTILINE)) == {("10001", ""), ("", "10001")}


@pytest.mark.parametrize("case", CASES)
def test_no_secret_is_in_it(case: str) -> None:
    assert not of(case, "Secret")
    text = json.dumps(made(case))
    assert not re.search(r"tw-[\w-]{20}|AccountKey|eyJ[\w-]{10}|BEGIN [A-Z ]*PRIVATE|[Pp]assword|client.?secret", text)
    for pod in pods(case):
        assert [each["name"] for each in server(pod).get("env", [])] in ([], ["HOME"], ["TUNEWRIGHT_GATEWAY"])


@pytest.mark.parametrize("case", CASES)
def test_everything_bears_the_labels(case: str) -> None:
    for each in [*made(case), *pods(case)]:
        labels = each["metadata"]["labels"]
        assert labels["tunewright"] == labels["app.kubernetes.io/instance"] == "tickets"
        assert {"app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of"} <= labels.keys()
    for each in made(case):
        assert each["metadata"]["namespace"] == NAMESPACE
        assert each["metadata"]["name"].split("-")[0] == "tickets"
        assert each["metadata"]["labels"]["app.kubernetes.io/version"] == __version__


def test_a_name_that_yaml_takes_for_something_else_stays_a_name() -> None:
    for each in render(CASES["canary with keda"] | KEYS, name="true"):
        assert each["metadata"]["labels"]["tunewright"] == "true"
        assert each["metadata"]["name"].split("-")[0] == "true"


@pytest.mark.parametrize("case", SERVERS)
def test_the_server_takes_its_command_line(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_BUNDLE", "/bundle")  # as the image does
    dockerfile = (REPOSITORY / "infra" / "docker" / "Dockerfile").read_text("utf-8")
    engine = CASES[case].get("engine", "openvino")
    (entry,) = (words for words in map(json.loads, re.findall("ENTRYPOINT (.+)", dockerfile)) if engine in words)
    command = get_command(cli).commands["serve"]
    for pod in pods(case):
        asked = command.make_context("serve", [*entry[entry.index("serve") + 1 :], *server(pod)["args"]]).params
        assert (str(asked["bundle"]), asked["engine"], asked["host"], asked["port"]) == (
            "/bundle",
            engine,
            "0.0.0.0",
            8080,
        )
        assert asked["threads"] == (None if engine == "vllm" else server(pod)["resources"]["limits"]["cpu"])
        mounted = [mount["mountPath"] for mount in server(pod)["volumeMounts"]]
        for file in ("keys", "identity", "captures"):
            assert asked[file] is None or any(str(asked[file]).startswith(f"{path}") for path in mounted)


def test_nothing_under_way_is_lost_when_a_pod_goes() -> None:
    for case in CASES:
        for pod in pods(case):
            asleep = server(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pod["spec"]["terminationGracePeriodSeconds"] >= asleep + DRAIN_SECONDS + VLLM_SECONDS
    defaults = YAML(typ="safe").load(VALUES)["server"]
    assert defaults["timeoutSeconds"] <= DRAIN_SECONDS
    assert defaults["limitConcurrency"] == MOST_UNDER_WAY
    for case in CASES:
        for deployment in of(case, "Deployment").values():
            rolls = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
            assert deployment["spec"]["strategy"] == ({"type": "Recreate"} if case == "gateway alone" else rolls)


def test_a_start_has_the_time_it_takes() -> None:
    for case in CASES:
        for deployment in of(case, "Deployment").values():
            container = server(deployment["spec"]["template"])
            probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
            assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
                "startup": "/health",
                "liveness": "/health",
                "readiness": "/ready",
            }
            waits = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
            assert waits > (VLLM_READY_SECONDS if "gpu" in case else 60)
            assert deployment["spec"]["progressDeadlineSeconds"] > waits


def test_a_pod_of_vllm_has_a_gpu() -> None:
    (pod,) = pods("gpu")
    assert server(pod)["resources"]["limits"] == {"cpu": 3, "memory": "16Gi", "nvidia.com/gpu": 1}
    assert pod["spec"]["nodeSelector"] == {"kubernetes.azure.com/accelerator": "nvidia"}
    assert pod["spec"]["tolerations"] == [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]
    mounts = {mount["name"]: mount["mountPath"] for mount in server(pod)["volumeMounts"]}
    assert mounts == {"scratch": "/tmp", "shared-memory": "/dev/shm"}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["spec"]["volumes"]}
    assert volumes == {"scratch": {"sizeLimit": "8Gi"}, "shared-memory": {"medium": "Memory", "sizeLimit": "4Gi"}}
    assert server(pod)["env"] == [{"name": "HOME", "value": "/tmp"}]


def test_a_pod_of_another_engine_has_none() -> None:
    (pod,) = pods("onnxruntime")
    assert server(pod)["resources"]["limits"] == {"cpu": 4, "memory": "2Gi"}
    assert "nodeSelector" not in pod["spec"]
    assert pod["spec"]["tolerations"] == [{"key": "spot"}]
    assert {mount["mountPath"] for mount in server(pod)["volumeMounts"]} == {"/tmp"}


def chosen(case: str, service: str) -> set[str]:
    """The images of the pods behind a Service."""
    wanted = of(case, "Service")[service]["spec"]["selector"].items()
    return {server(pod)["image"] for pod in pods(case) if wanted <= pod["metadata"]["labels"].items()}


def test_one_service_is_over_both_tracks_and_one_over_each() -> None:
    assert set(of("canary", "Service")) == {"tickets", "tickets-stable", "tickets-canary"}
    assert chosen("canary", "tickets") == {IMAGE, NEXT}
    assert chosen("canary", "tickets-stable") == {IMAGE}
    assert chosen("canary", "tickets-canary") == {NEXT}
    assert chosen("cpu", "tickets") == {IMAGE}
    assert set(of("cpu", "Service")) == {"tickets", "tickets-stable"}


def test_the_traffic_can_go_to_one_track() -> None:
    assert chosen("blue and green", "tickets") == {IMAGE}
    assert chosen("blue and green", "tickets-canary") == {NEXT}
    assert chosen("green alone", "tickets") == {NEXT}
    both = CASES["blue and green"]
    before, after = (render(both | {"traffic": traffic}) for traffic in ("stable", "canary"))
    changed = [(one["kind"], one["metadata"]["name"]) for one, other in zip(before, after, strict=True) if one != other]
    assert changed == [("Service", "tickets")]  # no pod is started anew


def test_what_finds_pods_never_changes() -> None:
    """Selectors of a Deployment can't."""
    for track, deployment in of("canary", "Deployment").items():
        assert deployment["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "tunewright",
            "app.kubernetes.io/instance": "tickets",
            "track": track.removeprefix("tickets-"),
        }


@pytest.mark.parametrize("case", CASES)
def test_there_are_never_two_autoscalers(case: str) -> None:
    by = CASES[case].get("autoscaling", {}).get("by", "cpu")
    deployments = of(case, "Deployment")
    scaled = {"cpu": of(case, "HorizontalPodAutoscaler"), "keda": of(case, "ScaledObject"), "none": {}}
    assert {name: set(objects) for name, objects in scaled.items() if objects} == (
        {by: set(deployments)} if by != "none" else {}
    )
    for name, deployment in deployments.items():
        # An autoscaler's number would be undone by every upgrade.
        assert ("replicas" in deployment["spec"]) == (by == "none")
        if by == "cpu":
            assert scaled["cpu"][name]["spec"]["scaleTargetRef"]["name"] == name
    (budget,) = of(case, "PodDisruptionBudget").values()
    assert budget["spec"]["maxUnavailable"] == 1


def test_processors_scale() -> None:
    found = {name: each["spec"] for name, each in of("canary", "HorizontalPodAutoscaler").items()}
    stable, canary = found["tickets-stable"], found["tickets-canary"]
    assert (stable["minReplicas"], stable["maxReplicas"]) == (9, 20)
    assert (canary["minReplicas"], canary["maxReplicas"]) == (1, 3)
    assert stable["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert stable["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 300}}


def test_requests_in_flight_scale_stable_and_the_canary_follows() -> None:
    """Written by hand, after KEDA's definition of a ScaledObject."""
    found = {name: each["spec"] for name, each in of("canary with keda", "ScaledObject").items()}
    calm = {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}}
    query = found["tickets-stable"]["triggers"][0]["metadata"]["query"]
    assert found == {
        "tickets-stable": {
            "scaleTargetRef": {"name": "tickets-stable"},
            "minReplicaCount": 9,
            "maxReplicaCount": 20,
            "advanced": calm,
            "triggers": [
                {
                    "type": "prometheus",
                    "authenticationRef": {"name": "tickets-prometheus"},
                    "metadata": {
                        "serverAddress": PROMETHEUS,
                        "query": query,
                        "threshold": "8",
                        "ignoreNullValues": "false",
                    },
                }
            ],
        },
        "tickets-canary": {
            "scaleTargetRef": {"name": "tickets-canary"},
            "minReplicaCount": 1,
            "maxReplicaCount": 3,
            "advanced": calm,
            "triggers": [
                {
                    "type": "kubernetes-workload",
                    "metadata": {
                        "value": "9",
                        "podSelector": (
                            "app.kubernetes.io/name=tunewright,app.kubernetes.io/instance=tickets,track=stable"
                        ),
                    },
                }
            ],
        },
    }
    (identity,) = of("canary with keda", "TriggerAuthentication").values()
    assert identity["spec"] == {"podIdentity": {"provider": "azure-workload", "identityId": CLIENT}}
    assert "authenticationRef" not in of("gpu with keda", "ScaledObject")["tickets-stable"]["spec"]["triggers"][0]


@pytest.mark.parametrize(("stable", "canary", "value"), [(3, 2, "1.5"), (1, 3, "0.334"), (3, 1, "3")])
def test_the_canary_keeps_its_share(stable: int, canary: int, value: str) -> None:
    values = {"stable": {"image": IMAGE, "replicas": stable}, "canary": {"image": NEXT, "replicas": canary}}
    (found,) = (
        each["spec"]
        for each in render(values | {"autoscaling": KEDA})
        if each["kind"] == "ScaledObject" and each["metadata"]["name"] == "tickets-canary"
    )
    assert found["triggers"][0]["metadata"]["value"] == value
    assert found["maxReplicaCount"] == -(-20 * canary // stable)


def test_a_green_track_alone_scales_by_itself() -> None:
    (found,) = (each for each in render(CASES["green alone"] | {"autoscaling": KEDA}) if each["kind"] == "ScaledObject")
    assert found["spec"]["triggers"][0]["type"] == "prometheus"
    assert 'pod=~"tickets-canary-' in found["spec"]["triggers"][0]["metadata"]["query"]


def test_the_query_is_about_what_the_server_tells() -> None:
    """Only Prometheus could prove the query itself."""
    query = of("canary with keda", "ScaledObject")["tickets-stable"]["spec"]["triggers"][0]["metadata"]["query"]
    pod = '"tickets-stable-[a-z0-9]+-[a-z0-9]+"'
    assert query == (
        f'sum(rate(tunewright_request_seconds_sum{{namespace="models",pod=~{pod},route=~"/v1/.+"}}[2m])) '
        f'or sum(tunewright_requests_under_way{{namespace="models",pod=~{pod}}}) * 0'
    )
    with TestClient(build_app(OneModel(Echo("classify")))) as client:
        fresh = samples(client)
        assert client.post("/v1/classify", json={"text": "hello"}).is_success
        asked = samples(client)
    assert ("tunewright_requests_under_way", None) in fresh  # there before anybody asked
    assert {route for name, route in asked if name == "tunewright_request_seconds_sum"} == {"/metrics", "/v1/classify"}
    expression = re.compile(pod.strip('"'))
    assert expression.fullmatch("tickets-stable-5f7c9d8b6-x2x9z")
    assert not expression.fullmatch("tickets-stable-canary-5f7c9d8b6-x2x9z")  # of a release tickets-stable


def samples(client: TestClient) -> set[tuple[str, str | None]]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(sample.name, sample.labels.get("route")) for family in families for sample in family.samples}


def test_prometheus_finds_the_pods() -> None:
    """Written by hand, after the definition of a PodMonitor."""
    (monitor,) = of("metrics", "PodMonitor").values()
    assert monitor["apiVersion"] == "azmonitoring.coreos.com/v1"
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics", "interval": "30s"}]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pods("metrics")[0]["metadata"]["labels"].items()
    assert {"labelLimit", "labelNameLengthLimit", "labelValueLengthLimit"} <= monitor["spec"].keys()


def gates(case: str) -> tuple[set[str], list[Object]]:
    """(who is let in, what is let out beside DNS); what is let in is always the port on which the pods listen."""
    (policy,) = of(case, "NetworkPolicy").values()
    (ingress,), (dns, *egress) = policy["spec"]["ingress"], policy["spec"]["egress"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    port = 8081 if case in GATEWAYS else 8080
    assert ingress["ports"] == [{"port": port, "protocol": "TCP"}]
    assert {each["containerPort"] for pod in pods(case) for each in server(pod)["ports"]} == {port}
    assert {port["port"] for port in dns["ports"]} == {53}
    assert all(
        policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in pods(case)
    )
    who = {
        each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        if "namespaceSelector" in each
        else each["ipBlock"]["cidr"]
        for each in ingress["from"]
    }
    return who, egress


def test_the_network_is_closed() -> None:
    assert gates("cpu") == gates("gpu") == gates("captures") == gates("workload identity") == ({NAMESPACE}, [])
    assert gates("ingress") == ({NAMESPACE, "gate"}, [])
    assert gates("controller outside") == ({NAMESPACE, "10.1.0.0/24"}, [])
    assert gates("metrics") == ({NAMESPACE, "kube-system"}, [])
    assert gates("entra") == (
        {NAMESPACE},
        [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
    )
    assert not of("open network", "NetworkPolicy")


def test_a_workload_identity_is_marked() -> None:
    (account,), (pod,) = of("workload identity", "ServiceAccount").values(), pods("workload identity")
    assert account["metadata"]["annotations"] == {"azure.workload.identity/client-id": CLIENT}
    assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert "azure.workload.identity/use" not in pods("cpu")[0]["metadata"]["labels"]
    assert "annotations" not in of("cpu", "ServiceAccount")["tickets"]["metadata"]


def test_captures_outlive_the_release() -> None:
    (claim,) = of("captures", "PersistentVolumeClaim").values()
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert not of("claimed captures", "PersistentVolumeClaim")
    for case, name in {"captures": "tickets-captures", "claimed captures": "journal"}.items():
        (volume,) = (volume for volume in pods(case)[0]["spec"]["volumes"] if volume["name"] == "captures")
        assert volume["persistentVolumeClaim"] == {"claimName": name}


def test_the_server_reads_its_identity_provider() -> None:
    (config,) = of("entra", "ConfigMap").values()
    provider = Provider.model_validate_json(config["data"]["identity.json"])
    assert provider.model_dump(exclude_none=True) == ENTRA["auth"]["identity"]
    other = copy.deepcopy(CASES["entra"])
    other["auth"]["identity"]["grants"].pop()
    (changed,) = (each["spec"]["template"] for each in render(other) if each["kind"] == "Deployment")
    assert changed["metadata"]["annotations"] != pods("entra")[0]["metadata"]["annotations"]  # pods are started anew


def test_keys_come_from_a_secret_that_is_only_named() -> None:
    (pod,) = pods("ingress")
    (volume,) = (volume["secret"] for volume in pod["spec"]["volumes"] if volume["name"] == "keys")
    assert volume == {
        "secretName": "tickets-keys",
        "defaultMode": 0o440,
        "items": [{"key": "keys.json", "path": "keys.json"}],
    }
    (mount,) = (mount for mount in server(pod)["volumeMounts"] if mount["name"] == "keys")
    assert "subPath" not in mount  # such a mount would never see a changed key


def test_an_ingress_leads_to_the_api_alone_and_by_tls() -> None:
    (ingress,) = of("ingress", "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == ("tickets.acme.com", "/v1", "Prefix")
    assert path["backend"]["service"] == {"name": "tickets", "port": {"name": "http"}}
    assert ingress["spec"]["tls"] == [{"hosts": ["tickets.acme.com"], "secretName": "tls"}]
    assert ingress["metadata"]["annotations"] == {"size": "24m"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stabel": {"image": IMAGE}}, "additional properties 'stabel' not allowed"),
        ({"canary": {"image": IMAGE, "replica": 1}}, "additional properties 'replica' not allowed"),
        ({"auth": {"keys": ["tw-secret"]}}, "additional properties 'keys' not allowed"),
        ({"ingress": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"networkPolicy": {"egress": [{"cidr": "0.0.0.0/0"}]}}, "missing property 'ports'"),
        ({"networkPolicy": {"egress": [{"ports": [443]}]}}, "oneOf"),
        ({"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8", "namespace": "db", "ports": [443]}]}}, "oneOf"),
        ({"gateway": {"settings": "gateway.yaml"}}, "got string, want object"),
        ({"gateway": {"secret": "Gateway_Secrets"}}, "does not match pattern"),
        ({"gateway": {"keys": ["tw-secret"]}}, "additional properties 'keys' not allowed"),
        ({"gateway": {"store": {"size": "1GB"}}}, "does not match pattern"),
        ({"gateway": {"store": {"storageClass": ""}}}, "does not match pattern"),
        ({"networkPolicy": {"egress": [{"cidr": "0.0.0.0/0", "ports": [70000]}]}}, "maximum"),
        ({"networkPolicy": {"namespaces": ["Team_A"]}}, "does not match pattern"),
        ({"networkPolicy": {"cidrs": ["10.1.0.4"]}}, "does not match pattern"),
        ({"stable": {"image": "tickets"}}, "does not match pattern"),
        ({"stable": {"image": "acme.azurecr.io/tickets"}}, "does not match pattern"),
        ({"stable": {"image": IMAGE, "replicas": "2"}}, "got string, want integer"),
        ({"stable": {"image": IMAGE, "replicas": 1.5}}, "got number, want integer"),
        ({"stable": {"image": IMAGE, "replicas": -1}}, "minimum"),
        ({"captures": {"enabled": "true"}}, "got string, want boolean"),
        ({"captures": {"size": "10GB"}}, "does not match pattern"),
        ({"cpu": {"cores": 0}}, "minimum"),
        ({"gpu": {"memory": 16}}, "got number, want string"),
        ({"gpu": {"gpus": 2}}, "additional properties 'gpus' not allowed"),
        ({"engine": "tgi"}, "value must be one of 'openvino', 'onnxruntime', 'linear', 'vllm', 'gateway'"),
        ({"autoscaling": {"by": "hpa"}}, "value must be one of"),
        ({"autoscaling": {"prometheus": "https://name:word@host"}}, "does not match pattern"),
        ({"workloadIdentity": {"clientId": "my-identity"}}, "does not match pattern"),
        ({"auth": {"identity": {"grants": [{"rôle": "x"}]}}}, "missing property 'role'"),
        ({"auth": {"identity": {"issuer": "http://login"}}}, "does not match pattern"),
    ],
)
def test_the_schema_refuses(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(said)):
        render(STABLE | values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stable": {"replicas": 0}}, "No track has replicas"),
        ({"stable": {"replicas": 1}}, "stable.image is not"),
        ({"stable": {"image": "acme.azurecr.io/tickets:latest"}}, "take a digest"),
        ({"canary": {"replicas": 1}}, "canary.image is not"),
        ({"traffic": "canary"}, "traffic goes to canary"),
        ({"stable": {"image": IMAGE, "replicas": 5}}, "maxReplicas is less than stable.replicas"),
        ({"engine": "vllm"}, "says nothing of a GPU"),
        ({"autoscaling": {"by": "keda"}}, "needs autoscaling.prometheus"),
        ({"auth": {"identity": {"issuer": "https://login"}}}, "needs an audience"),
        ({"auth": {"identity": {"audience": CLIENT}}}, "no issuer"),
        ({"auth": ENTRA["auth"]}, "open networkPolicy.egress"),
        (KEYS | {"ingress": {"enabled": True}}, "needs ingress.className"),
        (KEYS | {"ingress": INGRESS}, "keeps the ingress controller out"),
        ({"ingress": INGRESS | {"namespace": "gate"}}, "lets everybody ask"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(said)):
        render(STABLE | values)


@pytest.mark.parametrize("name", ["9lives", "a" * 41, "tickets-", "a.b"])
def test_a_name_that_services_could_not_have_is_refused(name: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="take a lower-case letter"):
        render(STABLE, name=name)


def paths(values: Object, above: str = "") -> Iterator[str]:
    """The names of all values, as a.b.c."""
    for key, value in values.items():
        free = key in ("nodeSelector", "annotations", "settings")
        yield from paths(value, f"{above}{key}.") if isinstance(value, dict) and not free else [f"{above}{key}"]


def schema_paths(schema: Object, above: str = "") -> Iterator[str]:
    if reference := schema.get("$ref"):
        schema = SCHEMA["definitions"][reference.rsplit("/", 1)[1]]
    if "properties" not in schema:
        yield above.rstrip(".")
        return
    assert schema["additionalProperties"] is False, above
    for key, inner in schema["properties"].items():
        yield from schema_paths(inner, f"{above}{key}.")


def test_each_value_is_known_used_and_explained() -> None:
    named = list(paths(YAML(typ="safe").load(VALUES)))
    assert sorted(named) == sorted(schema_paths(SCHEMA))
    lines = VALUES.splitlines()
    for path in named:
        *above, key = path.split(".")
        assert f".{key}" in TEMPLATES or f'"{key}"' in TEMPLATES, f"{path} is used nowhere"
        assert f"`{path}`" in PAGE, f"{path} is not in the page's table"
        # The canary's are explained as stable's are, `enabled` by what stands above its section.
        if key != "enabled":
            found = [at for at, line in enumerate(lines) if line.startswith(f"{'  ' * len(above)}{key}:")]
            assert all(lines[at - 1].strip().startswith("#") for at in found), f"{path} has no comment"


def test_the_chart_is_of_this_version() -> None:
    with helm_python.Chart.load(CHART) as chart:
        assert (chart.metadata["apiVersion"], chart.metadata["appVersion"]) == ("v2", __version__)
