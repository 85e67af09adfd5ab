"""The gateway's compose file, alerts and dashboard: they parse, and name only metrics and files that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from tunewright.gateway.metrics import GatewayMetrics

FOLDER = Path(__file__).parents[2] / "infra" / "gateway"
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
    compose = YAML(typ="safe").load(FOLDER / "compose.yaml")
    build = compose["services"]["gateway"]["build"]
    root = (FOLDER / build["context"]).resolve()
    assert f"AS {build['target']}\n" in (root / build["dockerfile"]).read_text("utf-8")
    for name, service in compose["services"].items():
        assert "build" in service or re.search(r":v?\d+\.\d+", service["image"]), f"{name} has no fixed version"
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            if source.startswith("./") and source != "./data":
                assert (FOLDER / source).is_file()
            elif not source.startswith("./"):
                assert source in compose["volumes"]
    assert YAML(typ="safe").load(FOLDER / "prometheus.yml")["rule_files"] == ["alerts.yml"]
    source = YAML(typ="safe").load(FOLDER / "grafana" / "sources.yml")["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source}
