"""Registries that workspaces share models through, as the SDK finds and asks them: discovery, models, imports."""

from __future__ import annotations

import re

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error

_DISCOVERY = re.compile(r"/registrymanagement/.+/registries/(?P<registry>[^/]+)(?:/discovery)?$", re.I)
_IN_REGISTRY = re.compile(r"(?P<registry>/subscriptions/.+/registries/[^/]+)/(?P<what>.+)$", re.I)
_ASSET = re.compile(r"azureml://locations/[^/]+/workspaces/[^/]+/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)$")


class Registries:
    """What registries answer; each that is asked for by name is there.

    Args:
        missing: names of registries that are not.
    """

    def __init__(self, cloud: Cloud, missing: tuple[str, ...] = ("missing",)):
        self._cloud, self._missing = cloud, missing

    def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """The answer; None where it is not for a registry."""
        if found := _DISCOVERY.search(request.path):
            return self._discovered(found["registry"], request.host)
        if found := _IN_REGISTRY.search(request.path):
            return self._answer_for(request, found["registry"], found["what"])
        return None

    def _discovered(self, name: str, host: str) -> HttpResponse:
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
            return self._imported(registry, request.json()["properties"])
        if request.method == "GET" and what.count("/") % 2 == 0:
            return HttpResponse(body={"value": list(self._cloud.below(f"{registry}/{what}"))})
        known = self._cloud.get(f"{registry}/{what}")
        if request.method == "GET":
            return HttpResponse(body=known) if known else error(404, "NotFound", f"The registry has no {what}.")
        return error(405, "MethodNotAllowed", f"{request.method} {what}")

    def _imported(self, registry: str, wanted: dict[str, str]) -> HttpResponse:
        """Copy a version of the workspace's; the answer is empty, and the SDK then asks for the model."""
        found = _ASSET.match(wanted["sourceAssetId"])
        source = found and self._cloud.get(
            f"{self._cloud.workspace}/models/{found['name']}/versions/{found['version']}"
        )
        if not source:
            return error(404, "NotFound", f"There is no {wanted['sourceAssetId']}.")
        place = f"models/{wanted['destinationName']}/versions/{wanted['destinationVersion']}"
        address = f"azureml://registries/{registry.rpartition('/')[2]}/{place}"
        self._cloud.put(
            f"{registry}/{place}", {"id": address, "properties": source["properties"], "made_by_client": True}
        )
        return HttpResponse()
