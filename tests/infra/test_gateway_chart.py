"""The gateway's value set of the Helm chart, beyond what test_chart.py asks of every set of values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
from typer.main import get_command

from tests.conftest import REPOSITORY
from tests.infra.test_chart import (
    ALONE,
    ENTRA,
    GATEWAY,
    GATEWAYS,
    INGRESS,
    JOBS,
    KEDA,
    NEXT,
    STABLE,
    Object,
    gates,
    merged,
    of,
    pods,
    render,
    server,
)
from tunewright.cli.app import command_line
from tunewright.gateway.config import GatewaySpec, load_gateway

cli = command_line()

PAGE = (REPOSITORY / "infra" / "gateway" / "values.yaml").read_text("utf-8")
ALERTS = (REPOSITORY / "infra" / "gateway" / "alerts.yml").read_text("utf-8")
DOCKERFILE = (REPOSITORY / "infra" / "docker" / "Dockerfile").read_text("utf-8")


def changed(others: Object) -> Object:
    """The gateway's value set with others on it."""
    return merged(GATEWAY, others)


def settings(case: str, folder: Path) -> GatewaySpec:
    """What the gateway reads in its pods."""
    (config,) = of(case, "ConfigMap").values()
    ((name, text),) = config["data"].items()
    file = folder / name
    file.write_text(text, "utf-8")
    return load_gateway(file)


def mounts(pod: Object) -> dict[str, Object]:
    """The volumes by the folder at which they are."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in server(pod)["volumeMounts"]} == volumes.keys()
    return {
        mount["mountPath"]: volumes[mount["name"]] | {"readOnly": mount.get("readOnly", False)}
        for mount in server(pod)["volumeMounts"]
    }


@pytest.mark.parametrize("case", GATEWAYS)
def test_the_gateway_finds_in_its_pods_what_its_settings_name(case: str, tmp_path: Path) -> None:
    spec, values = settings(case, tmp_path), GATEWAYS[case]
    assert spec.upstreams.keys() == values["gateway"]["settings"]["upstreams"].keys()
    for pod in pods(case):
        found = mounts(pod)
        assert (str(spec.keys) if spec.keys else None) == (
            "/etc/tunewright/keys/keys.json" if "auth" in values else None
        )
        assert ("/etc/tunewright/keys" in found) == bool(spec.keys)
        assert (spec.capture.folder if spec.capture else None) == (Path("/captures") if "captures" in values else None)
        assert ("/captures" in found) == bool(spec.capture)
        writable = {path for path, volume in found.items() if not volume["readOnly"]}
        assert writable - {"/tmp", "/captures"} == ({"/store"} if case == "gateway alone" else set())
        variables = {spec.database, *(upstream.key for upstream in spec.upstreams.values())} - {None, "entra"}
        assert bool(variables) == ("envFrom" in server(pod))
        for variable in variables:
            assert f"{variable}=" in PAGE, "the page's own Secret lacks it"


def test_the_images_command_takes_what_the_pods_set(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = DOCKERFILE.partition(" AS gateway\n")[2].partition("\nFROM ")[0]
    image = dict(re.findall(r"(TUNEWRIGHT_\w+)=(\S+)", stage))
    (pod,) = pods("gateways")
    container = server(pod)
    assert "args" not in container and "command" not in container
    for name, value in (image | {each["name"]: each["value"] for each in container["env"]}).items():
        monkeypatch.setenv(name, value)
    command = get_command(cli).commands["gateway"].commands["run"]
    asked = command.make_context("run", []).params
    assert (str(asked["file"]), asked["host"], asked["port"]) == (
        "/etc/tunewright/gateway/gateway.yaml",
        "0.0.0.0",
        container["ports"][0]["containerPort"],
    )
    assert mounts(pod)["/etc/tunewright/gateway"]["configMap"] == {"name": "tickets-settings"}
    assert 'ENTRYPOINT ["python", "-m", "tunewright", "gateway", "run"]' in stage


def test_several_gateways_keep_nothing_in_a_pod(tmp_path: Path) -> None:
    assert settings("gateways", tmp_path).database == "TUNEWRIGHT_DATABASE"
    for case in ("gateways", "gateways with jobs", "gateways without a store", "gateway without keys"):
        assert not any("store" in name for name in of(case, "PersistentVolumeClaim"))
    (deployment,) = of("gateways", "Deployment").values()
    assert "replicas" not in deployment["spec"]
    (scaler,) = of("gateways", "HorizontalPodAutoscaler").values()
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 4)
    assert server(deployment["spec"]["template"])["resources"]["limits"]["cpu"] == 1


def test_one_gateway_has_its_store_on_a_disk_of_its_own(tmp_path: Path) -> None:
    assert str(settings("gateway alone", tmp_path).store) == "/store/gateway.db"
    claim = of("gateway alone", "PersistentVolumeClaim")["tickets-store"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    (deployment,) = of("gateway alone", "Deployment").values()
    assert deployment["spec"]["replicas"] == 1
    found = mounts(deployment["spec"]["template"])
    assert found["/store"]["persistentVolumeClaim"] == {"claimName": "tickets-store"}


def test_projects_are_read_only() -> None:
    found = mounts(pods("gateways with jobs")[0])
    assert found["/data"]["persistentVolumeClaim"] == {"claimName": "projects", "readOnly": True}
    assert found["/data"]["readOnly"] is True
    assert "/data" not in mounts(pods("gateways")[0])  # an image's own would be hidden


def test_keys_of_upstreams_are_only_named() -> None:
    (pod,) = pods("gateways")
    assert server(pod)["envFrom"] == [{"secretRef": {"name": "gateway-secrets"}}]
    assert "envFrom" not in server(pods("gateway without keys")[0])


def test_changed_settings_start_new_pods() -> None:
    def annotated(values: Object) -> Any:
        (found,) = (each["spec"]["template"] for each in render(values) if each["kind"] == "Deployment")
        return found["metadata"]["annotations"]

    assert annotated(GATEWAY) == annotated(changed({"autoscaling": {"maxReplicas": 9}}))
    assert annotated(GATEWAY) != annotated(changed({"gateway": {"settings": {"limit_concurrency": 500}}}))
    assert annotated(GATEWAY) != annotated(changed({"captures": {"enabled": False}}))


def test_an_ingress_leads_to_the_apis_paths_alone() -> None:
    (ingress,) = of("gateway outside of the cluster", "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    assert [(each["path"], each["pathType"]) for each in rule["http"]["paths"]] == [
        ("/v1", "Prefix"),
        ("/openai", "Prefix"),
    ]
    assert all(each["backend"]["service"]["name"] == "tickets" for each in rule["http"]["paths"])


def test_the_network_is_open_to_upstreams_and_what_is_named() -> None:
    def to(where: Object, *ports: int) -> Object:
        return {"to": [where], "ports": [{"port": port, "protocol": "TCP"} for port in ports]}

    everywhere = {"ipBlock": {"cidr": "0.0.0.0/0"}}
    database = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "db"}}}
    assert gates("gateways") == ({"models"}, [to(everywhere, 443, 5432)])
    assert gates("gateway outside of the cluster") == (
        {"models", "gate", "kube-system"},
        [to(everywhere, 443), to(database, 5432)],
    )


def test_the_alert_knows_the_pods_by_their_job() -> None:
    """Written by hand, after the definition of a PodMonitor."""
    (monitor,) = of("gateway outside of the cluster", "PodMonitor").values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (relabeling,) = endpoint["relabelings"]
    assert relabeling["targetLabel"] == "job"
    assert f'up{{job="{relabeling["replacement"]}"}}' in ALERTS


def test_a_gateways_pods_are_called_so() -> None:
    for each in [*of("gateways", "Service").values(), *pods("gateways")]:
        assert each["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway"
    assert pods("cpu")[0]["metadata"]["labels"]["app.kubernetes.io/component"] == "server"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stable": {"replicas": 2}}, "up to 2 pods need PostgreSQL"),
        ({"autoscaling": {"by": "cpu", "maxReplicas": 3}}, "up to 3 pods need PostgreSQL"),
        ({"canary": {"image": NEXT, "replicas": 1}}, "up to 2 pods need PostgreSQL"),
        (
            {"stable": {"replicas": 2}, "gateway": {"settings": {"jobs": None, "budgets": [{"usd_per_month": 9}]}}},
            "up to 2 pods need PostgreSQL",
        ),
    ],
)
def test_several_pods_with_one_sqlite_file_are_refused(values: Object, said: str) -> None:
    alone = merged(changed(JOBS), ALONE)
    render(alone)
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(said)):
        render(merged(alone, values))
    render(merged(merged(alone, values), {"gateway": {"settings": {"database": "TUNEWRIGHT_DATABASE"}}}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gateway": {"settings": {"upstreams": None}}}, "needs gateway.settings.upstreams"),
        ({"gateway": {"settings": {"keys": "keys.json"}}}, "gateway.settings.keys is set by the chart"),
        ({"gateway": {"settings": {"store": "/tmp/gateway.db"}}}, "gateway.settings.store is set by the chart"),
        ({"gateway": {"settings": {"capture": {"folder": "here"}}}}, "capture.folder is set by the chart"),
        (
            {"gateway": {"settings": {"capture": {"share": 0.1}}}, "captures": {"enabled": False}},
            "needs captures.enabled",
        ),
        ({"gateway": {"secret": ""}}, "names TUNEWRIGHT_DATABASE, OPENAI_API_KEY: set gateway.secret"),
        ({"gateway": {"settings": {"upstreams": {"azure": {"key": "entra"}}}}}, "needs workloadIdentity.clientId"),
        (
            {"gateway": {"settings": {"jobs": {"bank": {"project": "bank"}}}}},
            "jobs.bank.project must begin with /data/",
        ),
        ({"autoscaling": KEDA}, "which the gateway does not have"),
        ({"auth": ENTRA["auth"]}, "no tokens of auth.identity"),
        ({"networkPolicy": {"egress": []}}, "keeps the gateway from its upstreams"),
        ({"auth": {"keysSecret": ""}, "ingress": INGRESS | {"namespace": "gate"}}, "lets everybody ask"),
        ({"stable": {"image": ""}}, "stable.image is not"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(said)):
        render(changed(values))


@pytest.mark.parametrize(
    "values", [{"secret": "gateway-secrets"}, {"projectsClaim": "projects"}, {"settings": {"a": 1}}]
)
def test_values_of_the_gateway_are_refused_for_another_engine(values: Object) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="engine is not gateway"):
        render(STABLE | {"gateway": values})
