"""Azure on this machine: the real clients and host names, and behind them an emulator that really runs the jobs.

`emulated_azure` starts it. Only environment variables lead this process and its children there, so the code is the same
that runs against the cloud. The emulator refuses all hosts that it does not emulate.
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
from typing import Any

from tunewright.azure_emulator.app import EmulatorServer, Service
from tunewright.azure_emulator.apps import HOST as APPS
from tunewright.azure_emulator.apps import Apps
from tunewright.azure_emulator.arm import INSIGHTS, REGISTRY, ResourceManager, workspace_of
from tunewright.azure_emulator.bill import Bill, bill_of
from tunewright.azure_emulator.blobs import ACCOUNT, azurite
from tunewright.azure_emulator.children import guarded
from tunewright.azure_emulator.cloud import PERSON, Cloud
from tunewright.azure_emulator.clusters import Clusters
from tunewright.azure_emulator.containers import environment_of_containers, sign_in
from tunewright.azure_emulator.endpoints import SCORING, Endpoints
from tunewright.azure_emulator.history import API, RunHistory
from tunewright.azure_emulator.images import Registry
from tunewright.azure_emulator.jobs import Runner
from tunewright.azure_emulator.login import LOGIN, Login, principal_of
from tunewright.azure_emulator.names import Names
from tunewright.azure_emulator.network import BLOBS, Proxy, certificates, hosts
from tunewright.azure_emulator.offers import PRICES, Offers
from tunewright.azure_emulator.pipelines import Jobs
from tunewright.azure_emulator.providers import Providers
from tunewright.azure_emulator.registries import Registries
from tunewright.azure_emulator.roles import Access
from tunewright.azure_emulator.storage import Storage
from tunewright.azure_emulator.throttle import Throttle
from tunewright.azure_emulator.tracking import TrackingServer, mlflow_server
from tunewright.core.processes import free_port

_CLUSTER, _IDENTITY = "tunewright-cpu", "id-emulator"
"""The names of what `infra/` makes for jobs besides the workspace."""
_TAGS = {"tunewright": "emulator", "azd-env-name": "emulator"}
"""The tags that `infra/` gives all that it makes: the name of azd's environment."""


@dataclass(frozen=True)
class AzureEmulator:
    """The running emulator."""

    cloud: Cloud
    storage: Storage
    runner: Runner
    jobs: Jobs
    offers: Offers
    tracking: TrackingServer
    registry: Registry
    endpoints: Endpoints
    apps: Apps
    clusters: Clusters
    access: Access
    providers: Providers
    throttle: Throttle
    proxy: Proxy

    @property
    def bill(self) -> Bill:
        """What the same calls would have made and cost in Azure so far."""
        return bill_of(self.cloud, self.runner, self.proxy.refused)

    def set_private(self, private: bool) -> None:
        """Make the workspace private, with a managed network and closed to the public one, as `infra/` does; or public
        again."""
        self.cloud.put(self.cloud.workspace, workspace_of(self.cloud, private=private))


@contextmanager
def emulated_azure(
    subscription: str, group: str, workspace: str, region: str, *, seasoned: bool = False
) -> Iterator[AzureEmulator]:
    """Emulate one workspace until the block ends. Inside, Azure's clients in this process and its children reach it.

    It lies in a new subscription, as `azd up` leaves it to a user: no quota for GPUs, only the providers registered
    that azd needed, the roles that docs/azure.md asks for, the cluster `tunewright-cpu`, and an identity for jobs and
    endpoints with the roles that `infra/` gives it.

    Args:
        seasoned: instead, a subscription with quota and providers for everything, whose owner is signed in and where
            each managed identity has these roles.

    Raises:
        UserError: Azurite or the MLflow server can't be fetched or started.
        ModuleNotFoundError: the extra [emulator] is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="tunewright-emulator-"))
    cloud = Cloud(subscription, group, workspace, region, folder)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(guarded(folder))
        files = certificates(folder, region)
        with ThreadPoolExecutor() as pool:
            blobs = pool.submit(stack.enter_context, azurite(files, folder / "azurite.log"))
            server = pool.submit(stack.enter_context, mlflow_server(folder))
        (blob_port, key), tracking = blobs.result(), TrackingServer(cloud, server.result())
        storage = Storage(blob_port, key, files.authority)
        port = free_port()
        proxy = Proxy(hosts(region), port)
        stack.callback(proxy.close)
        stack.enter_context(_environment(proxy, files.authority))
        providers, access = Providers(seasoned=seasoned), _access(cloud, seasoned)
        runner = Runner(cloud, storage, environment_of_containers(), tracking.begin_or_end, access)
        stack.callback(runner.close)
        offers = Offers(cloud, runner, seasoned=seasoned)
        history, registries = RunHistory(cloud, runner), Registries(cloud)
        endpoints = Endpoints(cloud, storage, access)
        stack.callback(endpoints.close)
        throttle = Throttle()
        login, registry = Login(), Registry(cloud, storage)
        apps = Apps(cloud, registry, login, access)
        stack.callback(apps.close)
        clusters, jobs = Clusters(cloud, registry), Jobs(cloud, runner)
        stack.callback(clusters.close)
        hooks = [
            *Names(cloud).hooks,
            *registry.hooks,
            *clusters.hooks,
            *apps.hooks,
            *jobs.hooks,
            *offers.hooks,
            *endpoints.hooks,
        ]
        arm = ResourceManager(cloud, access, providers, hooks)
        if not seasoned:
            cloud.put(f"{cloud.workspace}/computes/{_CLUSTER}", _cluster(cloud))
        services: dict[str, Service] = {
            LOGIN: login,
            "management.azure.com": throttle.limited(arm),
            PRICES: offers.prices,
            BLOBS: access.guarded(storage.forward),
            SCORING: endpoints.score,
            APPS: apps.serve,
            API: lambda request: (
                registries(request)
                or access.run_refusal(request)
                or (tracking(request) if request.path.startswith("/mlflow") else history(request))
            ),
        }
        stack.callback(EmulatorServer(cloud, services, files, port).close)
        yield AzureEmulator(
            cloud,
            storage,
            runner,
            jobs,
            offers,
            tracking,
            registry,
            endpoints,
            apps,
            clusters,
            access,
            providers,
            throttle,
            proxy,
        )


def _access(cloud: Cloud, seasoned: bool) -> Access:
    """The roles of the signed-in user: an owner's, or those that `infra/` and docs/azure.md give a user. And the roles
    of the identity that jobs and endpoints run as, which every identity of a seasoned subscription has."""
    subscription = f"/subscriptions/{cloud.subscription}"
    group = f"{subscription}/resourceGroups/{cloud.group}/providers"
    registry = f"{group}/Microsoft.ContainerRegistry/registries/{REGISTRY}"
    access = Access(f"{group}/Microsoft.Storage/storageAccounts/{ACCOUNT}", registry, cloud.workspace)
    identity = None if seasoned else principal_of(_identity(cloud))
    for role, scope in (
        ("Storage Blob Data Contributor", access.storage),
        ("AcrPull", access.registry),
        ("AzureML Data Scientist", cloud.workspace),
        ("Monitoring Metrics Publisher", f"{group}/Microsoft.Insights/components/{INSIGHTS}"),
    ):
        access.assign(role, scope, principal=identity)
    access.assign("Storage Blob Data Contributor", access.storage)
    if seasoned:
        access.assign("Owner", subscription)
        return access
    access.assign("Reader", subscription)
    access.assign("AzureML Data Scientist", cloud.workspace)
    access.assign("Managed Identity Operator", _identity(cloud))
    return access


def _identity(cloud: Cloud) -> str:
    """The path in Resource Manager of the identity that azd makes for jobs and endpoints."""
    group = f"/subscriptions/{cloud.subscription}/resourceGroups/{cloud.group}/providers"
    return f"{group}/Microsoft.ManagedIdentity/userAssignedIdentities/{_IDENTITY}"


def _cluster(cloud: Cloud) -> dict[str, Any]:
    """The cluster that `infra/` makes."""
    machines = {
        "vmSize": "Standard_D4s_v3",
        "vmPriority": "Dedicated",
        "osType": "Linux",
        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT120S"},
    }
    identity = {"type": "UserAssigned", "userAssignedIdentities": {_identity(cloud): {}}}
    properties = {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": machines}
    return {"location": cloud.region, "tags": _TAGS, "identity": identity, "properties": properties}


@contextmanager
def _environment(proxy: Proxy, authority: Path) -> Iterator[None]:
    """Set environment variables that lead every client to the emulator, and restore them afterwards."""
    variables = {
        "HTTPS_PROXY": proxy.url,
        "https_proxy": proxy.url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "REQUESTS_CA_BUNDLE": str(authority),
        "SSL_CERT_FILE": str(authority),
    } | sign_in(PERSON)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
