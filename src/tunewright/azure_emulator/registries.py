"""Registries through which workspaces share models, as the SDK uses them: discovery, models, imports."""

from __future__ import annotations

import re

from tunewright.azure_emulator.arm import listed
from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error

_DISCOVERY = re.compile(r"/registrymanagement/.+/registries/(?P<registry>[^/]+)(?:/discovery)?$", re.I)
_IN_REGISTRY = re.compile(r"(?P<registry>/subscriptions/.+/registries/[^/]+)/(?P<what>.+)$", re.I)
_ASSET = re.compile(r"azureml://locations/[^/]+/workspaces/[^/]+/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)$")


class Registries:
    """The answers of registries. A registry of any name exists.

    Args:
        missing: names of registries that do not exist.
    """

    def __init__(self, cloud: Cloud, missing: tuple[str, ...] = ("missing",)):
        self._cloud, self._missing = cloud, missing

    def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to a request; None if it is not for a registry."""
        if match := _DISCOVERY.search(request.path):
            return self._discovery(match["registry"], request.host)
        if match := _IN_REGISTRY.search(request.path):
            return self._answer_for(request, match["registry"], match["what"])
        return None

    def _discovery(self, name: str, host: str) -> HttpResponse:
        if name in self._missing:
            return error(404, "RegistryNotFound", f"There is no registry {name}.")
        return HttpResponse(
            body={
                "registryName": name,
                "primaryRegionResourceProviderUri": f"https://{host}/",
                "subscriptionId": self._cloud.subscription,
                "resourceGroup": self._cloud.group,
            }
        )

    def _answer_for(self, request: HttpRequest, registry: str, what: str) -> HttpResponse:
        if request.method == "POST" and what.lower() == "import":
            return self._import(registry, request.json()["properties"])
        if request.method == "GET" and what.count("/") % 2 == 0:
            return HttpResponse(body={"value": [*listed(self._cloud.below(f"{registry}/{what}"), request)]})
        known = self._cloud.get(f"{registry}/{what}")
        if request.method == "GET":
            return HttpResponse(body=known) if known else error(404, "NotFound", f"The registry has no {what}.")
        return error(405, "MethodNotAllowed", f"{request.method} {what}")

    def _import(self, registry: str, properties: dict[str, str]) -> HttpResponse:
        """Copy a version of the workspace. The answer is empty; the SDK then requests the model."""
        match = _ASSET.match(properties["sourceAssetId"])
        source = match and self._cloud.get(
            f"{self._cloud.workspace}/models/{match['name']}/versions/{match['version']}"
        )
        if not source:
            return error(404, "NotFound", f"There is no {properties['sourceAssetId']}.")
        place = f"models/{properties['destinationName']}/versions/{properties['destinationVersion']}"
        address = f"azureml://registries/{registry.rpartition('/')[2]}/{place}"
        self._cloud.put(
            f"{registry}/{place}", {"id": address, "properties": source["properties"], "made_by_client": True}
        )
        return HttpResponse()
