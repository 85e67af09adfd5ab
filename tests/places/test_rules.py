"""The table of Azure's rules: each row names a source and what keeps it, and the price book agrees with it."""

from __future__ import annotations

import importlib
from datetime import date

import pytest

from tunewright.assess.prices import price_book
from tunewright.places.azure.rules import endpoint_cores, endpoint_family, is_of_clusters, rules


@pytest.mark.parametrize("name", sorted(rules().rules))
def test_a_rule_says_where_it_is_from_and_what_keeps_it(name: str) -> None:
    rule = rules().rules[name]
    assert date(2026, 1, 1) < rule.read <= date.today()
    module, _, function = rule.kept_in.rpartition(".")
    try:
        importlib.import_module(rule.kept_in)
    except ModuleNotFoundError:
        assert callable(getattr(importlib.import_module(module), function))


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
    assert len(sizes) == len(set(sizes)) == 85
    assert endpoint_family("Standard_D2s_v5") is None
