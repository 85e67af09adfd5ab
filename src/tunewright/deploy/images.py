"""The serving images: what they are built of, and their builds in an Azure container registry."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tunewright.backends.azure import store
from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.assets import DIGITS, PACKAGE, index_of, package_files, pinned
from tunewright.backends.azure.bases import SERVED_PYTHON, python_base
from tunewright.backends.azure.connection import Connection, transport
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.waiting import Wait
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_file, sha256_json, sha256_tree
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.inference.bundle import read_info
from tunewright.inference.checksums import SECOND
from tunewright.inference.runtimes.base import ENGINES
from tunewright.models.linear_model import LINEAR

_EXTRAS = ("serve", "documents", "oidc")
_REGISTRY = "AZURE_CONTAINER_REGISTRY"
_VERSION = "2019-06-01-preview"
"""The api-version of the registry's tasks."""
_POLL_SECONDS = 3.0
_LONGEST_SECONDS = 3600.0
_COSTS = "the registry bills the build's seconds, for which the price book has no price"
_LIMITED = re.compile(r"toomanyrequests|pull rate limit", re.I)
"""Matches a build's log if Docker Hub limits pulls without a sign-in (docs.docker.com/docker-hub/usage)."""
_DOCKER_HUB = (
    "Docker Hub limits pulls. Build on Microsoft's image, which is larger: azure.base_images.serve={base}; or import "
    "the small one into your registry once: az acr import --name {name} --source docker.io/library/python:3.12-slim "
    "--image python:3.12-slim; and name it: azure.base_images.serve={name}.azurecr.io/python:3.12-slim"
)


def engine_of(bundle: Path) -> str:
    """The stage of the Dockerfile that serves a bundle. For a cascade it has both models' runtimes; numpy, the runtime
    of a linear model, is in every image.

    Raises:
        UserError: no image has both runtimes.
    """
    infos = [read_info(bundle)]
    while infos[-1].second_below is not None:
        bundle = bundle / SECOND
        infos.append(read_info(bundle))
    engines = {ENGINES[each.runtime] for each in infos}
    if len(engines) > 1:
        engines.discard(LINEAR)
    if len(engines) > 1:
        raise UserError(
            f"The two models of this cascade run in {' and '.join(sorted(engines))}, and no image has both.",
            where=bundle,
            fix="Export both for one of them: export.runtime=openvino",
        )
    return engines.pop()


def registry_of(at: Connection) -> str:
    """The path in Resource Manager of the container registry: azd's, or the workspace's own.

    Raises:
        UserError: there is none.
    """
    if name := os.environ.get(_REGISTRY):
        group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
        return f"{group}/providers/Microsoft.ContainerRegistry/registries/{name}"
    registry = at.workspace.container_registry
    if not registry:
        raise UserError(
            "The workspace has no container registry yet.",
            where=at.name.workspace,
            fix=f"Make one: azd up; or name one in the same resource group: {_REGISTRY}=NAME",
        )
    return str(registry)


def infra_folder() -> Path:
    """The folder of the Dockerfile and the chart: in the installed package, or in the repository."""
    inside = PACKAGE / "infra"
    return inside if inside.is_dir() else PACKAGE.parents[1] / "infra"


def context(folder: Path, spec: Spec, bundle: Path | None, identity: Path | None = None) -> None:
    """Write everything that an image is built of into a folder.

    Args:
        spec: names the base images.
        bundle: goes into the image; None if it will be mounted.
        identity: the file that says who may call it, for `tunewright serve --identity`.
    """
    shutil.copytree(infra_folder() / "docker", folder / "infra" / "docker")
    (folder / "infra" / "docker" / "Dockerfile").write_text(_dockerfile(spec), "utf-8")
    shutil.copytree(PACKAGE, folder / "src" / "tunewright", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (folder / "constraints.txt").write_text("\n".join(_pins()) + "\n", "utf-8")
    if bundle:
        shutil.copytree(bundle, folder / "bundle")
        if identity:
            shutil.copy(identity, folder / "bundle" / "identity.json")


def _dockerfile(spec: Spec) -> str:
    """The Dockerfile with the base images and the package index that a spec names."""
    text = (infra_folder() / "docker" / "Dockerfile").read_text("utf-8")
    for stage, image in (("base", spec.azure.base_images.get("serve")), ("vllm", spec.azure.base_images.get("vllm"))):
        start = text.index(f" AS {stage}\n")
        line = text.rindex("\n", 0, start) + 1
        text = f"{text[:line]}FROM {image}{text[start:]}" if image else text
        after = text.index(f" AS {stage}\n") + len(f" AS {stage}\n")
        text = f"{text[:after]}ENV{index_of(spec)}\n{text[after:]}" if index_of(spec) else text
    return text


def _pins() -> list[str]:
    return [line for line in pinned(_EXTRAS) if "==" in line]


def tag_of(spec: Spec, bundle: Path | None, identity: Path | None = None) -> str:
    """The tag of an image: a hash of everything that `context` writes, including this package's code.

    Args:
        spec, bundle, identity: as for `context`.
    """
    code = [(path.relative_to(PACKAGE).as_posix(), sha256_file(path)) for path in package_files()]
    docker = sha256_tree(infra_folder() / "docker")[0]
    bundle_hash = sha256_tree(bundle)[0] if bundle else None
    identity_hash = sha256_file(identity) if identity else None
    return sha256_json([code, docker, _dockerfile(spec), _pins(), bundle_hash, identity_hash])[:DIGITS]


def repository_of(spec: Spec) -> str:
    """The repository of a project's images in a registry (rule repository-name)."""
    return "tunewright/" + re.sub(r"_{3,}|_+-[_-]*|-+_[_-]*", "-", spec.name).rstrip("_-")


def built(at: Connection, spec: Spec, bundle: Path, stage: str, identity: Path | None = None) -> str:
    """The whole name of the image with a bundle inside. It is built if the registry does not have it.

    Args:
        stage: the stage of the Dockerfile.
        identity: as for `context`.

    Raises:
        UserError: there is no registry, Azure refuses, or the build fails.
    """
    registry = registry_of(at)
    image = f"{repository_of(spec)}:{tag_of(spec, bundle, identity)}"
    if not is_built(at, registry, image):
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "context"
            context(folder, spec, bundle, identity)
            build(at, registry, image, folder, stage)
    return f"{registry.rpartition('/')[2]}.azurecr.io/{image}"


def build(at: Connection, registry: str, image: str, folder: Path, stage: str) -> None:
    """Build an image with a registry's own tasks: nothing is built here, and no password is needed.

    Args:
        registry: its path in Resource Manager.
        image: `repository:tag`.
        folder: the build context.
        stage: the stage of the Dockerfile.

    Raises:
        UserError: Azure refuses, or the build fails; the error says how to read its log.
    """
    with azure_errors(f"the image {image}"):
        upload = at.ask("POST", f"{registry}/listBuildSourceUploadUrl", _VERSION)
        say(f"  azure: building the image {image} in the registry")
        _send(upload["uploadUrl"], _packed(folder))
        scheduled = at.ask(
            "POST",
            f"{registry}/scheduleRun",
            _VERSION,
            {
                "type": "DockerBuildRequest",
                "imageNames": [image],
                "isPushEnabled": True,
                "noCache": False,
                "sourceLocation": upload["relativePath"],
                "dockerFilePath": "infra/docker/Dockerfile",
                "target": stage,
                "platform": {"os": "Linux", "architecture": "amd64"},
                "timeout": int(_LONGEST_SECONDS),
            },
        )
        number, name = scheduled["properties"]["runId"], registry.rpartition("/")[2]
        named = f"--registry {name} --run-id {number} --subscription {registry.split('/')[2]}"
        try:
            run = _wait_for_run(at, f"{registry}/runs/{number}")
        except BaseException:
            say(
                f"  azure: the build {number} of this image runs on in the registry {name}, for an hour at most. "
                f"To end it: az acr task cancel-run {named}"
            )
            raise
    if run["properties"]["status"] != "Succeeded":
        log_end = _log_end(at, f"{registry}/runs/{number}")
        raise UserError(
            f"The image {image} could not be built: {run['properties']['status']}.",
            where=registry,
            why=f"Its log ends: {log_end}" if log_end else None,
            fix=_DOCKER_HUB.format(name=name, base=python_base(SERVED_PYTHON))
            if _LIMITED.search(log_end)
            else f"See its log: az acr task logs {named}",
        )


def _log_end(at: Connection, run: str) -> str:
    """The end of a build's log; empty if it can't be read."""
    try:
        with azure_errors("the log of the build"):
            link = at.ask("POST", f"{run}/listLogSasUrl", _VERSION).get("logLink", "")
        text = httpx.get(link, timeout=30).raise_for_status().text if link else ""
    except (UserError, httpx.HTTPError):
        return ""
    return without_secrets(text).strip()[-600:]


def is_built(at: Connection, registry: str, image: str) -> bool:
    """Whether the registry has built an image of this name and tag."""
    with azure_errors("the registry's builds"):
        runs = at.ask("GET", f"{registry}/runs", _VERSION)
    images = [_image(each) for run in runs.get("value", []) for each in run["properties"].get("outputImages") or []]
    return image in images


def _image(output: dict[str, Any]) -> str:
    return f"{output.get('repository')}:{output.get('tag')}"


def _wait_for_run(at: Connection, path: str) -> dict[str, Any]:
    """Wait until a build's run is over, and return it."""
    wait = Wait()
    while True:
        run = at.ask("GET", path, _VERSION)
        over = wait.look("the image to be built", _LONGEST_SECONDS, _COSTS)
        if run["properties"]["status"] not in ("Queued", "Started", "Running") or over:
            return run
        time.sleep(_POLL_SECONDS)


def _send(url: str, packed: Path) -> None:
    """Upload a build context.

    Args:
        url: a signed address, so no message may contain it.
    """
    from azure.storage.blob import BlobClient, ExponentialRetry

    client = BlobClient.from_blob_url(url, transport=transport(), retry_policy=ExponentialRetry(**store.RETRIES))
    with packed.open("rb") as stream:
        client.upload_blob(stream, overwrite=True, max_concurrency=4)


def _packed(folder: Path) -> Path:
    """A .tar.gz file beside the folder: contexts with large weights don't fit into memory."""
    packed = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname=".")
    return packed
