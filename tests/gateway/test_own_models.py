"""What own models can't take is no failure of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.linear import project
from tests.gateway.test_replies import signature
from tests.gateway.upstream import Upstream, refused
from tests.serving.test_adapters import linear_bundle
from tunewright.core.errors import UserError
from tunewright.gateway.config import GatewaySpec, JobSpec, ModelSpec, UpstreamSpec
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.takeover.job import OwnedJob
from tunewright.gateway.takeover.models import (
    AtServer,
    CantTake,
    Hosts,
    InProcess,
    ModelChain,
    OwnAnswer,
    OwnModel,
    OwnModelFailed,
)
from tunewright.gateway.takeover.store import open_store
from tunewright.gateway.takeover.tallies import Tallies
from tunewright.inference.bundle import read_info, write_info
from tunewright.serving.adapters import add_adapter


def at(server: Upstream) -> AtServer:
    return AtServer(ModelSpec(url=server.url), signature("label"))


def fault_of(*models: AtServer | InProcess, text: str = "my parcel is late") -> OwnModelFailed:
    """Why a chain of models gives no answer."""

    async def ask() -> None:
        chain = ModelChain(models)
        try:
            await chain.answer(text, 30, in_background=False)
        finally:
            await chain.close()

    with pytest.raises(OwnModelFailed) as caught:
        asyncio.run(ask())
    return caught.value


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    yield hosts
    hosts.close()


@pytest.mark.parametrize(
    ("status", "is_the_requests"), [(400, True), (413, True), (401, False), (404, False), (500, False)]
)
def test_a_server_says_whose_fault_it_is(status: int, is_the_requests: bool, paid: Upstream) -> None:
    paid.faults = [refused(status, "a")]
    assert isinstance(fault_of(at(paid)), CantTake) is is_the_requests


def test_half_a_letter_is_for_no_model(paid: Upstream) -> None:
    assert isinstance(fault_of(at(paid), text="late \ud800"), CantTake)
    assert paid.asked == []


def test_a_request_that_is_too_long_for_a_bundle_is_not_its_fault(tmp_path: Path, hosts: Hosts) -> None:
    bundle = linear_bundle("tickets", tmp_path / "bundle")
    write_info(bundle, read_info(bundle).model_copy(update={"context": 100}))
    assert isinstance(
        fault_of(InProcess(hosts, bundle, None, signature("label")), text="my parcel is late " * 20), CantTake
    )


def test_a_model_of_another_job_or_name_is_refused_before_anything_is_asked(tmp_path: Path, hosts: Hosts) -> None:
    bundle = linear_bundle("tickets", tmp_path / "bundle")
    with pytest.raises(UserError, match=r"job is to classify, the job's answers are of the kind 'record'"):
        InProcess(hosts, bundle, None, signature("record"))
    folder = tmp_path / "adapters"
    for name in ("tickets", "mails"):
        add_adapter(folder, bundle, name)
    with pytest.raises(UserError, match="no model 'tikets' here") as caught:
        InProcess(hosts, folder, "tikets", signature("label"))
    assert "Did you mean 'tickets'?" in caught.value.paragraph()
    with pytest.raises(UserError, match="several models") as caught:
        InProcess(hosts, folder, None, signature("label"))
    assert "mails, tickets" in caught.value.paragraph()


@pytest.mark.parametrize(
    ("statuses", "is_the_requests"), [((400, 500), False), ((500, 400), False), ((400, 413), True)]
)
def test_a_chain_fails_if_one_of_its_models_does(
    statuses: tuple[int, int], is_the_requests: bool, paid: Upstream
) -> None:
    paid.faults = [refused(status, "a") for status in statuses]
    assert isinstance(fault_of(at(paid), at(paid)), CantTake) is is_the_requests


@pytest.fixture
def told() -> list[str]:
    """Why jobs were taken back."""
    return []


@pytest.fixture
def job(tmp_path: Path, paid: Upstream, told: list[str]) -> Iterator[Callable[..., OwnedJob]]:
    """Makes a job whose own model is a server, or another one."""
    spec = JobSpec(project=project(tmp_path / "tickets").folder, mode="own")
    store = open_store(
        GatewaySpec(upstreams={"openai": UpstreamSpec(url=paid.url)}, store=tmp_path / "gateway.db", capture=None)
    )

    def make(metrics: GatewayMetrics, model: OwnModel | None = None) -> OwnedJob:
        chain = ModelChain([model or at(paid)])
        return OwnedJob(
            "tickets", spec, signature("label"), chain, Tallies(store), metrics, lambda _, why: told.append(why), None
        )

    yield make
    store.close()


@pytest.mark.parametrize(("status", "unfit"), [(400, 20), (500, 0)])
def test_only_failures_take_a_job_back(
    status: int, unfit: int, job: Callable[..., OwnedJob], paid: Upstream, told: list[str]
) -> None:
    metrics = GatewayMetrics()
    paid.faults = [refused(status, "a") for _ in range(20)]

    async def ask() -> None:
        tickets = job(metrics)
        for _ in range(20):
            with pytest.raises(OwnModelFailed):
                await tickets.own_answer("my parcel is late")
        await tickets.close()

    asyncio.run(ask())
    assert bool(told) is not bool(unfit)
    counted = f'tunewright_gateway_unfit_total{{job="tickets"}} {unfit:.1f}'.encode()
    assert (counted in metrics.text()) is bool(unfit)


class Promoted:
    """A bundle that a newer one may replace."""

    version = "old"
    has_threshold = True
    sure = 0.95
    """The share of its answers that it is sure of."""
    asked = 0

    async def answer(self, text: str, seconds: float, *, in_background: bool) -> OwnAnswer:  # noqa: ARG002 (the protocol's)
        self.asked += 1
        is_sure = int(self.asked * self.sure) > int((self.asked - 1) * self.sure)
        return OwnAnswer("late", 0.9, not is_sure, None, "tickets", self.version, 1, 1)

    async def close(self) -> None:
        pass


def test_a_newer_bundle_is_not_judged_by_the_one_before(job: Callable[..., OwnedJob], told: list[str]) -> None:
    model = Promoted()

    async def ask() -> None:
        tickets = job(GatewayMetrics(), model)
        tickets.recall(400, 380)
        for _ in range(50):
            await tickets.own_answer("my parcel is late")
        model.version, model.sure = "new", 0.6  # it needs more to be sure
        for _ in range(1000):
            await tickets.own_answer("my parcel is late")
        assert told == []
        model.sure = 0.1
        for _ in range(100):
            await tickets.own_answer("my parcel is late")
        await tickets.close()

    asyncio.run(ask())
    assert "it was sure of 60% of the first 300" in told[0]
