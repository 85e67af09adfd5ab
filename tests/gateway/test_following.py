"""Modes of several gateways on one store: each reads its file once, and all follow what was changed last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gateway.test_store import at
from tunewright.gateway.config import GatewaySpec, JobSpec, UpstreamSpec
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.takeover.jobs import Takeover
from tunewright.gateway.takeover.models import Hosts
from tunewright.gateway.takeover.store import GatewayStore, Setting

pytestmark = pytest.mark.slow

Read = Callable[[float], Takeover]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GatewayStore]:
    opened = at(tmp_path / "gateway.db")
    yield opened
    opened.close()


@pytest.fixture
def read(store: GatewayStore, tickets: Path) -> Iterator[Read]:
    """Reads a file with this `audit`, in one of several gateways."""
    hosts = Hosts()

    def read(audit: float) -> Takeover:
        job = JobSpec(project=tickets, mode="own", audit=audit)
        spec = GatewaySpec(upstreams={"openai": UpstreamSpec(url="openai")}, jobs={"tickets": job})
        takeover = Takeover(spec, store, hosts, GatewayMetrics())
        takeover.read_file()
        return takeover

    yield read
    hosts.close()


def reasons(store: GatewayStore) -> list[str]:
    """Of all changes, the newest first."""
    return [each.why for each in store.changes()]


def test_two_files_set_no_modes_in_turn(read: Read, store: GatewayStore) -> None:
    old, new = read(0.02), read(0.5)
    for _ in range(10):
        old.looks.now()
        new.looks.now()
    assert reasons(store) == ["changed in the file", "first start"]
    assert old.jobs["tickets"].setting == new.jobs["tickets"].setting == Setting("own", 1.0, 0.5)


@pytest.mark.parametrize("which", ["old", "new"])
def test_what_was_taken_back_stays_so_whichever_file_its_gateway_has_read(
    which: str, read: Read, store: GatewayStore
) -> None:
    gateways = {"old": read(0.02), "new": read(0.5)}
    for each in gateways.values():
        each.looks.now()
    gateways[which]._take_back("tickets", "it fails")
    for _ in range(2):
        for each in gateways.values():
            each.looks.now()
    again = read(0.5)
    assert reasons(store) == ["it fails; it was own", "changed in the file", "first start"]
    assert store.changes()[0].by == "the gateway"
    for each in (*gateways.values(), again):
        assert each.jobs["tickets"].setting == Setting("shadow", 1.0, 0.5)


def test_replaced_settings_only_write_what_was_proven_before(read: Read, store: GatewayStore) -> None:
    old = read(0.02)
    old._take_back("tickets", "it fails")
    old.end_following()
    old.looks.now()
    assert reasons(store) == ["it fails; it was own", "first start"]
    store.change("tickets", Setting("own", 1.0, 0.02), Setting("own", 1.0, 0.02), "anna", "trained again")
    old.looks.now()
    old._take_back("tickets", "the former model was slow")
    old.looks.now()
    assert store.changes()[0].why == "trained again"
    assert old.jobs["tickets"].setting.mode == "shadow"


def test_what_a_person_set_is_not_taken_back(read: Read, store: GatewayStore) -> None:
    gateway = read(0.02)
    store.change("tickets", Setting("observe", 1.0, 0.02), Setting("own", 1.0, 0.02), "anna", "a pause")
    gateway._take_back("tickets", "it fails")
    gateway.looks.now()
    assert reasons(store) == ["a pause", "first start"]
    assert gateway.jobs["tickets"].setting.mode == "observe"


def test_two_gateways_that_prove_the_same_take_it_back_once(read: Read, store: GatewayStore) -> None:
    both = [read(0.02), read(0.02)]
    for each in both:
        each._take_back("tickets", "it fails")
    for each in both:
        each.looks.now()
    assert reasons(store) == ["it fails; it was own", "first start"]
