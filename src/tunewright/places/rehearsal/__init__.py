"""Azure on this machine: the real clients and host names, and behind them a stand-in that really runs the jobs.

`rehearse` starts it and points this process and its children there by environment variables alone, so that what is
rehearsed is the code that runs in the cloud. Hosts that the stand-in does not play are refused.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunewright.places.rehearsal.app import Server, Service
from tunewright.places.rehearsal.apps import HOST as APPS
from tunewright.places.rehearsal.apps import Apps
from tunewright.places.rehearsal.arm import Arm
from tunewright.places.rehearsal.bill import Bill, bill_of
from tunewright.places.rehearsal.blobs import azurite
from tunewright.places.rehearsal.children import guarded
from tunewright.places.rehearsal.cloud import TENANT, Cloud
from tunewright.places.rehearsal.clusters import Clusters
from tunewright.places.rehearsal.containers import environment_of_containers
from tunewright.places.rehearsal.endpoints import SCORING, Endpoints
from tunewright.places.rehearsal.history import API, History
from tunewright.places.rehearsal.images import Registry
from tunewright.places.rehearsal.jobs import Runner
from tunewright.places.rehearsal.login import LOGIN, Login
from tunewright.places.rehearsal.network import BLOBS, Proxy, certificates, hosts
from tunewright.places.rehearsal.offers import PRICES, Offers
from tunewright.places.rehearsal.pipelines import Jobs
from tunewright.places.rehearsal.registries import Registries
from tunewright.places.rehearsal.storage import Storage
from tunewright.places.rehearsal.tracking import Tracking, mlflow_server
from tunewright.processes import free_port


@dataclass(frozen=True)
class Rehearsal:
    """The stand-in while it runs."""

    cloud: Cloud
    storage: Storage
    runner: Runner
    jobs: Jobs
    offers: Offers
    tracking: Tracking
    endpoints: Endpoints
    apps: Apps
    clusters: Clusters
    proxy: Proxy

    @property
    def bill(self) -> Bill:
        """What the real thing would have caused so far."""
        return bill_of(self.cloud, self.runner, self.proxy.refused)


@contextmanager
def rehearse(subscription: str, group: str, workspace: str, region: str) -> Iterator[Rehearsal]:
    """Play one workspace until the block ends; inside, Azure's clients in this process and its children meet it.

    Raises:
        UserError: what it stands on can't be fetched or started.
        ModuleNotFoundError: the extra [rehearse] is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="tunewright-rehearsal-"))
    cloud = Cloud(subscription, group, workspace, region, folder)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(guarded(folder))
        made = certificates(folder, region)
        with ThreadPoolExecutor() as both:
            blobs = both.submit(stack.enter_context, azurite(made, folder / "azurite.log"))
            server = both.submit(stack.enter_context, mlflow_server(folder))
        (blob_port, key), tracking = blobs.result(), Tracking(cloud, server.result())
        storage = Storage(blob_port, key, made.authority)
        port = free_port()
        proxy = Proxy(hosts(region), port)
        stack.callback(proxy.close)
        stack.enter_context(_pointed_at(proxy, made.authority))
        runner = Runner(cloud, storage, environment_of_containers(), tracking.begin_or_end)
        stack.callback(runner.close)
        offers = Offers(region)
        history, registries = History(cloud, runner), Registries(cloud)
        endpoints = Endpoints(cloud, storage)
        stack.callback(endpoints.close)
        login, registry = Login(), Registry(cloud, storage)
        apps = Apps(cloud, registry, login)
        stack.callback(apps.close)
        clusters, jobs = Clusters(cloud, registry), Jobs(cloud, runner)
        stack.callback(clusters.close)
        hooks = [
            *registry.hooks,
            *clusters.hooks,
            *apps.hooks,
            *jobs.hooks,
            *offers.hooks,
            *endpoints.hooks,
        ]
        arm = Arm(cloud, hooks)
        services: dict[str, Service] = {
            LOGIN: login, "management.azure.com": arm, BLOBS: storage.handed_on, PRICES: offers.prices,
            SCORING: endpoints.score, APPS: apps.serve,
            API: lambda asked: registries(asked) or (
                tracking(asked) if asked.path.startswith("/mlflow") else history(asked)
            ),
        }  # fmt: skip
        stack.callback(Server(cloud, services, made, port).close)
        yield Rehearsal(cloud, storage, runner, jobs, offers, tracking, endpoints, apps, clusters, proxy)


@contextmanager
def _pointed_at(proxy: Proxy, authority: Path) -> Iterator[None]:
    """Environment variables that lead every client to the stand-in; what they were comes back."""
    told = {
        "HTTPS_PROXY": proxy.url, "https_proxy": proxy.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "REQUESTS_CA_BUNDLE": str(authority), "SSL_CERT_FILE": str(authority),
        "AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": TENANT, "AZURE_CLIENT_SECRET": "rehearsal",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
