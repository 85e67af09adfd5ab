"""The gateway's compose file, alerts and dashboard: they parse, name only metrics and files that there are, and run as
who owns what they mount."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML
from sqlalchemy import make_url

from tests.monitoring.conftest import PostgreSQL, execute, postgresql_server  # noqa: F401 (a fixture)
from tunewright.core.errors import UserError
from tunewright.gateway.config import GatewaySpec, UpstreamSpec
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.takeover.store import open_store

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "gateway"
COMPOSE = YAML(typ="safe").load(FOLDER / "compose.yaml")
DASHBOARD = json.loads((FOLDER / "grafana" / "gateway.json").read_text("utf-8"))
RULES = [rule for group in YAML(typ="safe").load(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"].replace("$__rate_interval", "5m") for panel in DASHBOARD["panels"] for target in panel["targets"]
]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The labels of each metric by its name, and of one of its series."""
    metrics = GatewayMetrics()
    for each in vars(metrics).values():
        if labels := getattr(each, "_labelnames", ()):
            each.labels(*("x" for _ in labels))
    found: dict[str, set[str]] = {"up": {"job"}}
    for line in metrics.text().decode().splitlines():
        if match := re.match(r"(\w+)(?:{(.*)})? ", line):
            found[match[1]] = set(re.findall(r'(\w+)="', match[2] or ""))
    return found


def selectors(node: Any) -> Iterator[Any]:
    """All selectors of series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    for name in ("lhs", "rhs", "expr"):
        if child := getattr(node, name, None):
            yield from selectors(child)
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_parses_and_names_what_the_gateway_measures(expression: str, known: dict[str, set[str]]) -> None:
    found = list(selectors(promql_parser.parse(expression)))
    assert found
    for each in found:
        assert each.name in known, f"the gateway has no metric {each.name}"
        assert {matcher.name for matcher in each.matchers.matchers} <= known[each.name]


def test_each_alert_says_what_is_wrong_and_how_bad_it_is(known: dict[str, set[str]]) -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 8
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        summary = rule["annotations"]["summary"]
        (first, *_) = selectors(promql_parser.parse(rule["expr"]))
        assert set(re.findall(r"\$labels\.(\w+)", summary)) <= known[first.name]


def test_no_two_panels_lie_on_each_other() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_compose_file_mounts_what_is_there() -> None:
    build = COMPOSE["services"]["gateway"]["build"]
    root = (FOLDER / build["context"]).resolve()
    assert f"AS {build['target']}\n" in (root / build["dockerfile"]).read_text("utf-8")
    for name, service in COMPOSE["services"].items():
        assert "build" in service or re.search(r":v?\d+\.\d+", service["image"]), f"{name} has no fixed version"
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            if source.startswith("./") and source != "./data":
                assert (FOLDER / source).is_file()
            elif not source.startswith("./"):
                assert source in COMPOSE["volumes"]
    assert YAML(typ="safe").load(FOLDER / "prometheus.yml")["rule_files"] == ["alerts.yml"]
    source = YAML(typ="safe").load(FOLDER / "grafana" / "sources.yml")["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source}


def test_a_container_that_writes_into_a_persons_folder_runs_as_that_person() -> None:
    """Keys and captures are their owner's alone, and the image's user is another one."""
    for name, service in COMPOSE["services"].items():
        writes = any(mount.startswith("./") and not mount.endswith(":ro") for mount in service["volumes"])
        if writes:
            assert service["user"] == "${TUNEWRIGHT_UID:-1000}:${TUNEWRIGHT_GID:-1000}", name
    pages = [ROOT / "infra" / "docker" / "Dockerfile", *(ROOT / "docs").glob("*.md")]
    commands = [line for page in pages for line in page.read_text("utf-8").splitlines() if " docker run " in f" {line}"]
    writing = [line for line in commands if re.search(r"--volume \./[^\s:]+:[^\s:]+(\s|$)", line)]
    assert writing
    assert all('--user "$(id -u):$(id -g)"' in line for line in writing), writing


@pytest.mark.slow
@pytest.mark.postgres
def test_any_password_opens_the_database(
    postgresql_server: PostgreSQL,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the variables that the compose file gives the gateway, at a server of ours."""
    password, administrator = "p@ss/w:rd?#%20", postgresql_server.address.format("postgres")
    placeholder = COMPOSE["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]
    for name, value in COMPOSE["services"]["gateway"]["environment"].items():
        monkeypatch.setenv(name, value.replace(placeholder, password))
    address = make_url(os.environ["TUNEWRIGHT_DATABASE"])
    here = address.set(
        username="guarded", host=None, database="postgres", query={"host": str(postgresql_server.folder)}
    )
    monkeypatch.setenv("TUNEWRIGHT_DATABASE", here.render_as_string(hide_password=False))
    spec = GatewaySpec(upstreams={"openai": UpstreamSpec(url="openai")}, database="TUNEWRIGHT_DATABASE")
    execute(administrator, "DROP ROLE IF EXISTS guarded")
    execute(administrator, f"CREATE ROLE guarded LOGIN PASSWORD '{password}'")
    execute(administrator, "CREATE SCHEMA AUTHORIZATION guarded")
    try:
        open_store(spec).close()
        monkeypatch.setenv("PGPASSWORD", "wrong")
        with pytest.raises(UserError, match="password authentication failed"):
            open_store(spec)
    finally:
        execute(administrator, "DROP OWNED BY guarded CASCADE")
        execute(administrator, "DROP ROLE guarded")
