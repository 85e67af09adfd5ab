"""A project that is deployed to the emulator without a model: its bundles are names, and a test sets the results of its
trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.cloud import HttpResponse
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.registry import Registered
from tunewright.config import Spec
from tunewright.deploy import DeployTarget, live_of, release
from tunewright.deploy.apps import App
from tunewright.deploy.endpoint import ManagedEndpoint
from tunewright.deploy.kubernetes import Release
from tunewright.deploy.live import State
from tunewright.deploy.trial import DeploymentTrial, Exam
from tunewright.economics.cost import Service

EXAM = Exam("m", [], 1.0, 1, 0, 1.0)
GOOD = DeploymentTrial(0.1, 1.0, 10, 1.0, 0, 1.0, 2.0, ())
SLOW = DeploymentTrial(0.1, 1.0, 10, 1.0, 0, 1.0, 1e6, ())


class Ready:
    """A server that needs no model."""

    port = 0

    def __init__(self, *_: object, **__: object):
        self.closed = False

    def wait(self) -> bool:
        return True

    def answer(self, _: object) -> HttpResponse:
        return HttpResponse(body={})

    def text(self) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


SERVING = {"machine": "Standard_F4s_v2"}
BUNDLES = ("one", "two", "three")


class Deploying:
    """A project on the emulator. Its bundles are names, and `finds` makes the result of a trial."""

    def __init__(self, azure: AzureEmulator, spec: Spec, folder: Path):
        self.azure, self.spec, self.at, self.folder = azure, spec, connect(spec), folder
        self.finds: Callable[[], DeploymentTrial] = lambda: GOOD

    def target(self, to: str, bundle: str = "one") -> DeployTarget:
        engine = "onnxruntime"
        if to == "aml":
            name = f"tunewright-{self.spec.name}"
            number = str(1 + BUNDLES.index(bundle))
            path = f"{self.azure.cloud.workspace}/models/{name}/versions/{number}"
            if self.azure.cloud.get(path) is None:
                state = {"tags": {"state": "challenger"}, "properties": {}, "flavors": {}, "modelUri": "azureml://x/y"}
                self.azure.cloud.put(path, {"properties": state | {"modelType": "custom_model"}})
            return ManagedEndpoint(self.spec, self.at, engine, Registered(name, number, "", bundle), 2)
        weights = self.folder / bundle
        weights.mkdir(exist_ok=True)
        (weights / "weights").write_text(bundle, "utf-8")
        if to == "aks":
            return Release(self.spec, self.at, engine, weights, 4, "2048Mi")
        identity = self.folder / "identity.json"
        provider = {"issuer": "https://x/y/z/tenant/v2.0", "audience": "a", "grants": [{"role": "caller"}]}
        identity.write_text(json.dumps(provider), "utf-8")
        return App(self.spec, self.at, engine, weights, identity, Service(0.01, 0.02, 0.5), 2)

    def release(
        self, to: str, bundle: str = "one", canary: int | None = None, mirror: int | None = None
    ) -> DeployTarget:
        target = self.target(to, bundle)
        release(self.spec, target, EXAM, canary, mirror)
        return target

    def state(self, to: str) -> State:
        found = live_of(to, self.spec, self.at).state()
        assert found
        return found

    def conclude(self, to: str, *, promote: bool = False, **more: Any) -> str:
        return api.conclude(self.spec, to, promote=promote, **more)

    def serving(self, to: str) -> dict[str, int]:
        return {version: share for version, share in self.state(to).shares.items() if share}
