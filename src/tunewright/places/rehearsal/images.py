"""A container registry whose tasks build images: what went in is kept, and is run from this package."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.places.rehearsal.cloud import Answer, Asked, Cloud, error
from tunewright.places.rehearsal.dockerfiles import Container, container_of
from tunewright.places.rehearsal.served import SERVER
from tunewright.places.rehearsal.storage import Storage

_STAGE = re.compile(r"^FROM .+ AS (\S+)$", re.M)


@dataclass(frozen=True)
class Image:
    """A bundle in a container."""

    bundle: Path
    stage: str
    container: Container = SERVER

    @property
    def identity(self) -> dict[str, Any] | None:
        """Who may ask it, where that is in it."""
        file = self.bundle / "identity.json"
        return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else None


class Registry:
    """The workspace's container registry."""

    def __init__(self, cloud: Cloud, storage: Storage):
        self._cloud, self._storage = cloud, storage
        self.images: dict[str, Image] = {}
        self.log = ""
        """Of a build that fails: the next one does, with this as its log."""
        self._runs: dict[str, dict[str, Any]] = {}
        self.hooks = [
            ("POST", r"/registries/[^/]+/listBuildSourceUploadUrl$", self._upload_url),
            ("POST", r"/registries/[^/]+/scheduleRun$", self._schedule),
            ("GET", r"/registries/[^/]+/runs$", self._list), ("GET", r"/registries/[^/]+/runs/[^/]+$", self._run),
            ("POST", r"/registries/[^/]+/runs/[^/]+/listLogSasUrl$", self._log),
        ]  # fmt: skip

    def _upload_url(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        place = f"builds/{len(self._cloud.calls)}.tar.gz"
        return Answer(body={"uploadUrl": self._storage.signed(place, "cw"), "relativePath": place})

    def _schedule(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        wanted = asked.json()
        name = f"cb{len(self._runs) + 1}"
        folder = self._cloud.folder / "images" / name
        packed = self._storage.download(wanted["sourceLocation"], folder / "packed")
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            archive.extractall(folder, filter="data")
        dockerfile = (folder / wanted["dockerFilePath"]).read_text("utf-8")
        stages = _STAGE.findall(dockerfile)
        if wanted["target"] not in stages:
            return error(400, "BadRequest", f"the Dockerfile has no stage {wanted['target']}")
        if self.log:
            self._storage.write(f"builds/{name}.log", self.log.encode())
            self._runs[name] = {"properties": {"runId": name, "status": "Failed"}}
            self.log = ""
            return Answer(body=self._runs[name])
        outputs = []
        for each in wanted["imageNames"]:
            repository, _, tag = each.partition(":")
            self.images[each] = Image(folder / "bundle", wanted["target"], container_of(dockerfile, wanted["target"]))
            outputs.append({"repository": repository, "tag": tag})
        self._runs[name] = {"properties": {"runId": name, "status": "Succeeded", "outputImages": outputs}}
        return Answer(body=self._runs[name])

    def _list(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        return Answer(body={"value": list(self._runs.values())})

    def _log(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        return Answer(body={"logLink": self._storage.signed(f"builds/{path.split('/')[-2]}.log")})

    def _run(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        return Answer(body=self._runs[path.rpartition("/")[2]])
