"""A container registry whose tasks build images: it keeps the bundle that went in, and this package serves it."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.dockerfiles import Container, base_of, container_of
from tunewright.azure_emulator.served import SERVER
from tunewright.azure_emulator.storage import Storage

_STAGE = re.compile(r"^FROM .+ AS (\S+)$", re.M)


@dataclass(frozen=True)
class Image:
    """A bundle in a container."""

    bundle: Path
    stage: str
    container: Container = SERVER

    @property
    def identity(self) -> dict[str, Any] | None:
        """Who may call it, if the image says so."""
        file = self.bundle / "identity.json"
        return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else None


_LIMITED = (
    "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
)
"""The end of a build's log (github.com/MicrosoftLearning/mslearn-azure-ai/issues/125, read 2026-11-29)."""


class Registry:
    """The workspace's container registry.

    With `on_free_credit` the subscription is one whose registries build nothing. With `is_limited` Docker Hub gives it
    no more images.
    """

    def __init__(self, cloud: Cloud, storage: Storage):
        self._cloud, self._storage = cloud, storage
        self.images: dict[str, Image] = {}
        self.log = ""
        """If set, the next build fails with this log."""
        self.on_free_credit = False
        self.is_limited = False
        self._runs: dict[str, dict[str, Any]] = {}
        self.hooks = [
            ("POST", r"/registries/[^/]+/listBuildSourceUploadUrl$", self._upload_url),
            ("POST", r"/registries/[^/]+/scheduleRun$", self._schedule),
            ("GET", r"/registries/[^/]+/runs$", self._list),
            ("GET", r"/registries/[^/]+/runs/[^/]+$", self._run),
            ("POST", r"/registries/[^/]+/runs/[^/]+/listLogSasUrl$", self._log),
        ]

    def _upload_url(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        place = f"builds/{len(self._cloud.calls)}.tar.gz"
        return HttpResponse(body={"uploadUrl": self._storage.signed(place, "cw"), "relativePath": place})

    def _schedule(self, request: HttpRequest, path: str) -> HttpResponse:
        """Build an image, if the rules tasks-on-free-credit and docker-hub-limit allow it."""
        if self.on_free_credit:
            return self._not_permitted(path.split("/")[-2])
        task = request.json()
        name = f"cb{len(self._runs) + 1}"
        folder = self._cloud.folder / "images" / name
        packed = self._storage.download(task["sourceLocation"], folder / "packed")
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            archive.extractall(folder, filter="data")
        dockerfile = (folder / task["dockerFilePath"]).read_text("utf-8")
        stages = _STAGE.findall(dockerfile)
        if task["target"] not in stages:
            return error(400, "BadRequest", f"the Dockerfile has no stage {task['target']}")
        limited = _LIMITED if self.is_limited and _is_on_docker_hub(base_of(dockerfile, task["target"])) else ""
        if log := self.log or limited:
            self._storage.write(f"builds/{name}.log", log.encode())
            self._runs[name] = {"properties": {"runId": name, "status": "Failed"}}
            self.log = ""
            return HttpResponse(body=self._runs[name])
        outputs = []
        for each in task["imageNames"]:
            repository, _, tag = each.partition(":")
            self.images[each] = Image(folder / "bundle", task["target"], container_of(dockerfile, task["target"]))
            outputs.append({"repository": repository, "tag": tag})
        self._runs[name] = {"properties": {"runId": name, "status": "Succeeded", "outputImages": outputs}}
        return HttpResponse(body=self._runs[name])

    def _not_permitted(self, registry: str) -> HttpResponse:
        """In the words of github.com/Azure-Samples/azure-search-openai-demo/issues/2592 (read 2026-11-29)."""
        code = "TasksOperationsNotAllowed"
        why = (
            f"ACR Tasks requests for the registry {registry} and {self._cloud.subscription} are not permitted. Please "
            "file an Azure support request at http://aka.ms/azuresupport for assistance."
        )
        return HttpResponse(
            400, {"error": {"code": code, "message": why, "target": "request"}}, error(400, code, "").headers
        )

    def _list(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        return HttpResponse(body={"value": list(self._runs.values())})

    def _log(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        return HttpResponse(body={"logLink": self._storage.signed(f"builds/{path.split('/')[-2]}.log")})

    def _run(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        return HttpResponse(body=self._runs[path.rpartition("/")[2]])


def _is_on_docker_hub(image: str) -> bool:
    """Whether an image's name names no other registry: the name of another registry has a dot or a port
    (github.com/distribution/reference, read 2026-11-28)."""
    host, slash, _ = image.partition("/")
    return not slash or host == "docker.io" or not re.search(r"[.:]|^localhost$", host)
