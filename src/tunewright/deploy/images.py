"""The serving images: what they are built of, and building them in a registry of Azure's."""

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
"""Of the registry's tasks."""
_POLL_SECONDS = 3.0
_LONGEST_SECONDS = 3600.0
_COSTS = "the registry bills the build's seconds, for which the price book has no price"
_LIMITED = re.compile(r"toomanyrequests|pull rate limit", re.I)
"""In a build's log: Docker Hub gives no more images to whoever does not sign in (docs.docker.com/docker-hub/usage)."""
_DOCKER_HUB = (
    "Docker Hub limits pulls. Build on Microsoft's image, which is larger: azure.base_images.serve={base}; or bring "
    "the small one into your registry once: az acr import --name {name} --source docker.io/library/python:3.12-slim "
    "--image python:3.12-slim; and name it: azure.base_images.serve={name}.azurecr.io/python:3.12-slim"
)


def engine_of(bundle: Path) -> str:
    """The stage of the Dockerfile that serves a bundle: of a cascade the one that has both models' runtimes. numpy,
    which answers for a linear model, is in every image.

    Raises:
        UserError: no image has both.
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
    """ARM's path of the container registry: azd's, or the workspace's own.

    Raises:
        UserError: there is none.
    """
    if named := os.environ.get(_REGISTRY):
        group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
        return f"{group}/providers/Microsoft.ContainerRegistry/registries/{named}"
    found = at.workspace.container_registry
    if not found:
        raise UserError(
            "The workspace has no container registry yet.",
            where=at.name.workspace,
            fix=f"Make one: azd up; or name one in the same resource group: {_REGISTRY}=NAME",
        )
    return str(found)


def infra_folder() -> Path:
    """Where the Dockerfile and the chart lie: in the package that was installed, or in the repository."""
    inside = PACKAGE / "infra"
    return inside if inside.is_dir() else PACKAGE.parents[1] / "infra"


def context(folder: Path, spec: Spec, bundle: Path | None, identity: Path | None = None) -> None:
    """Lay out everything an image is built of.

    Args:
        spec: says what it is built on.
        bundle: goes into the image; None where it is mounted.
        identity: who may ask, for `tunewright serve --identity`.
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
    """The Dockerfile, on the bases and with the index that a spec names."""
    text = (infra_folder() / "docker" / "Dockerfile").read_text("utf-8")
    for stage, named in (("base", spec.azure.base_images.get("serve")), ("vllm", spec.azure.base_images.get("vllm"))):
        start = text.index(f" AS {stage}\n")
        line = text.rindex("\n", 0, start) + 1
        text = f"{text[:line]}FROM {named}{text[start:]}" if named else text
        after = text.index(f" AS {stage}\n") + len(f" AS {stage}\n")
        text = f"{text[:after]}ENV{index_of(spec)}\n{text[after:]}" if index_of(spec) else text
    return text


def _pins() -> list[str]:
    return [line for line in pinned(_EXTRAS) if "==" in line]


def tag_of(spec: Spec, bundle: Path | None, identity: Path | None = None) -> str:
    """The tag of an image: a hash of all that `context` lays out, this package's code among it.

    Args:
        spec, bundle, identity: as for `context`.
    """
    code = [(path.relative_to(PACKAGE).as_posix(), sha256_file(path)) for path in package_files()]
    docker = sha256_tree(infra_folder() / "docker")[0]
    served = sha256_tree(bundle)[0] if bundle else None
    who = sha256_file(identity) if identity else None
    return sha256_json([code, docker, _dockerfile(spec), _pins(), served, who])[:DIGITS]


def repository_of(spec: Spec) -> str:
    """Where a project's images lie in a registry (rule repository-name)."""
    return "tunewright/" + re.sub(r"_{3,}|_+-[_-]*|-+_[_-]*", "-", spec.name).rstrip("_-")


def built(at: Connection, spec: Spec, bundle: Path, stage: str, identity: Path | None = None) -> str:
    """The image with a bundle inside, by its whole name; built where the registry does not have it.

    Args:
        stage: of the Dockerfile.
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
    """Build an image in a registry, by its own tasks: nothing is built here, and no password is needed.

    Args:
        registry: ARM's path of it.
        image: `repository:tag`.
        folder: the context.
        stage: of the Dockerfile.

    Raises:
        UserError: Azure refuses, or the build fails; its log's address is told.
    """
    with azure_errors(f"the image {image}"):
        place = at.ask("POST", f"{registry}/listBuildSourceUploadUrl", _VERSION)
        say(f"  azure: the image {image} is built in the registry")
        _send(place["uploadUrl"], _packed(folder))
        began = at.ask(
            "POST",
            f"{registry}/scheduleRun",
            _VERSION,
            {
                "type": "DockerBuildRequest",
                "imageNames": [image],
                "isPushEnabled": True,
                "noCache": False,
                "sourceLocation": place["relativePath"],
                "dockerFilePath": "infra/docker/Dockerfile",
                "target": stage,
                "platform": {"os": "Linux", "architecture": "amd64"},
                "timeout": int(_LONGEST_SECONDS),
            },
        )
        number, name = began["properties"]["runId"], registry.rpartition("/")[2]
        try:
            run = _ended(at, f"{registry}/runs/{number}")
        except BaseException:
            say(
                f"  azure: the build {number} of this image runs on in the registry {name}, for an hour at most. "
                f"To end it: az acr task cancel-run --registry {name} --run-id {number}"
            )
            raise
    if run["properties"]["status"] != "Succeeded":
        said = _last_words(at, f"{registry}/runs/{number}")
        raise UserError(
            f"The image {image} could not be built: {run['properties']['status']}.",
            where=registry,
            why=f"Its log ends: {said}" if said else None,
            fix=_DOCKER_HUB.format(name=name, base=python_base(SERVED_PYTHON))
            if _LIMITED.search(said)
            else f"See its log: az acr task logs --registry {name} --run-id {number}",
        )


def _last_words(at: Connection, run: str) -> str:
    """The end of a build's log; empty where it can't be had."""
    try:
        with azure_errors("the log of the build"):
            link = at.ask("POST", f"{run}/listLogSasUrl", _VERSION).get("logLink", "")
        text = httpx.get(link, timeout=30).raise_for_status().text if link else ""
    except (UserError, httpx.HTTPError):
        return ""
    return without_secrets(text).strip()[-600:]


def is_built(at: Connection, registry: str, image: str) -> bool:
    """Whether an image of this name and tag was built before."""
    with azure_errors("the registry's builds"):
        runs = at.ask("GET", f"{registry}/runs", _VERSION)
    named = [_image(each) for run in runs.get("value", []) for each in run["properties"].get("outputImages") or []]
    return image in named


def _image(output: dict[str, Any]) -> str:
    return f"{output.get('repository')}:{output.get('tag')}"


def _ended(at: Connection, run: str) -> dict[str, Any]:
    """A build's run once it is over."""
    wait = Wait()
    while True:
        found = at.ask("GET", run, _VERSION)
        over = wait.look("the image to be built", _LONGEST_SECONDS, _COSTS)
        if found["properties"]["status"] not in ("Queued", "Started", "Running") or over:
            return found
        time.sleep(_POLL_SECONDS)


def _send(url: str, packed: Path) -> None:
    """Upload a context.

    Args:
        url: signed, so no message may have it.
    """
    from azure.storage.blob import BlobClient, ExponentialRetry

    client = BlobClient.from_blob_url(url, transport=transport(), retry_policy=ExponentialRetry(**store.RETRIES))
    with packed.open("rb") as stream:
        client.upload_blob(stream, overwrite=True, max_concurrency=4)


def _packed(folder: Path) -> Path:
    """A .tar.gz beside the folder: contexts with large weights don't fit into memory."""
    packed = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname=".")
    return packed
