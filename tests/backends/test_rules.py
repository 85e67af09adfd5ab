"""The table of Azure's rules: each row names a source, the code that acts by it and the emulator's code that enforces
it, and the price book agrees with it."""

from __future__ import annotations

import importlib
import inspect
import re
from datetime import date
from operator import attrgetter
from pathlib import Path

import pytest

import tunewright
from tunewright.azure_emulator.names import KINDS
from tunewright.backends.azure.rules import Rule, endpoint_cores, endpoint_family, is_of_clusters, rules
from tunewright.economics.prices import price_book

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(rules().rules))
def test_a_rule_says_where_it_is_from_and_what_keeps_it(name: str) -> None:
    rule = rules().rules[name]
    assert date(2026, 1, 1) < rule.read <= date.today()
    if "/" in rule.kept_in:
        assert (REPOSITORY / rule.kept_in).is_file()
        return
    assert not rule.kept_in.startswith("tunewright.azure_emulator"), "the emulator keeps no rule, it enforces them"
    module, _, function = rule.kept_in.rpartition(".")
    try:
        importlib.import_module(rule.kept_in)
    except ModuleNotFoundError:
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", sorted(rules().rules))
def test_what_enforces_a_rule_in_the_emulator_names_it(name: str) -> None:
    for each in rules().rules[name].enforced_by:
        module, _, function = each.partition(":")
        found = attrgetter(function)(importlib.import_module(f"tunewright.azure_emulator.{module}"))
        assert callable(found)
        assert re.search(rf"\b{name}\b", inspect.getsource(found)), f"{each} does not name {name}"


def test_a_rule_is_enforced_or_says_why_not() -> None:
    said = rules().rules["cluster-token"].model_dump()
    neither: dict[str, object] = {"enforced_by": []}
    for wrong in (neither, {"not_enforced": "Both."}):
        with pytest.raises(ValueError, match="either enforced_by or not_enforced"):
            Rule.model_validate(said | wrong)


def test_the_code_names_no_rule_that_is_not_in_the_table() -> None:
    sources = [path.read_text("utf-8") for path in Path(tunewright.__file__).parent.rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"\brule ([a-z]+(?:-[a-z]+)+)", text)}
    assert named | {kind.rule for kind in KINDS} <= rules().rules.keys()


@pytest.mark.parametrize(
    "size",
    [
        "Standard_NC6",
        "Standard_NC24r",
        "Standard_NC6s_v2",
        "Standard_NC24rs_v3",
        "Standard_NC6s_v3",
        "Standard_ND24s",
        "Standard_NV6",
        "Standard_NV12s_v3",
    ],
)
def test_what_is_retired_is_on_no_list(size: str) -> None:
    assert not is_of_clusters(size)
    assert endpoint_family(size) is None


def test_the_price_book_knows_what_azure_ml_has_clusters_of() -> None:
    machines = {name: each for name, each in price_book().machines.items() if name.startswith("Standard_")}
    assert {name for name, each in machines.items() if each.clusters} == set(filter(is_of_clusters, machines))
    assert {"Standard_D4s_v3", "Standard_F8s_v2", "Standard_NC4as_T4_v3", "Standard_NC40ads_H100_v5"} <= {
        name for name in machines if is_of_clusters(name)
    }


@pytest.mark.parametrize("size", ["Standard_D4s_v5", "Standard_NV36ads_A10_v5", "Standard_D4as_v4", "Standard_B2s"])
def test_what_clusters_don_t_take(size: str) -> None:
    assert not is_of_clusters(size)


@pytest.mark.parametrize(
    ("size", "instances", "cores", "needed"),
    [("Standard_F4s_v2", 1, 4, 8), ("STANDARD_DS3_V2", 10, 4, 48), ("Standard_NC24ads_A100_v4", 2, 24, 48)],
)
def test_an_endpoint_needs_quota_to_be_upgraded(size: str, instances: int, cores: int, needed: int) -> None:
    """Ten Standard_DS3_v2 need 48 cores: the example of Azure's page."""
    assert endpoint_family(size)
    assert endpoint_cores(size, instances, cores) == needed


def test_every_size_of_endpoints_is_of_one_family() -> None:
    sizes = [size for family in rules().endpoint_sizes for size in family.sizes]
    assert len(sizes) == len(set(sizes)) == 79
    assert endpoint_family("Standard_D2s_v5") is None
