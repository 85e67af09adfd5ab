"""The assets that a job needs, each named by the hash of its content: data, our package with the spec, the
environment."""

from __future__ import annotations

import contextlib
import gzip
import io
import platform
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from typing import Any, Self

from tunewright.backends.azure.bases import python_base
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.backends.azure.store import DATASTORE, FOLDER, BlobStore
from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest, sha256_file, sha256_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say

DIGITS = 16
"""How many hexadecimal digits of a hash name a version."""
_EXTRAS = ("train", "serve", "api", "documents", "azure", "monitor")
"""The extras of Tunewright that jobs need."""
_TORCH_INDEX = "https://download.pytorch.org/whl"
"""It has an index for each build of torch, named by the build's label (pytorch.org/get-started/previous-versions, read
2026-11-28)."""
PACKAGE = Path(__file__).parents[2]
_STEPS = "tunewright-steps"
"""The name of the jobs' environment, and of the repository of its image."""
_DOCKERFILE = """\
FROM {base}
# The driver's libraries are mounted where these say so; a compiler is for kernels that are built as they are needed.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility PIP_NO_CACHE_DIR=1{index}
RUN command -v gcc || (apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \\
    && rm -rf /var/lib/apt/lists/*)
COPY requirements.txt .
RUN pip install --requirement requirements.txt
"""


def data_asset(at: Connection, name: str, version: str, path: Path, tags: dict[str, str]) -> str:
    """Make a data asset of a folder or a file. It is uploaded only if this name has no version with this content.

    Args:
        version: a hash of the content.

    Returns: the asset's address.

    Raises:
        UserError: Azure refuses.
    """
    if not _is_there(at.ml.data, name, version, tags):
        say(f"  azure: uploading {name}, version {version}")
        prefix = f"{FOLDER}/assets/{name}/{version}"
        BlobStore(at).upload(path, prefix)
        where = DATASTORE + (prefix if path.is_dir() else f"{prefix}/{path.name}")
        _register(at, name, version, where, "uri_folder" if path.is_dir() else "uri_file", tags)
    return f"azureml:{name}:{version}"


def output_asset(at: Connection, spec: Spec, step: str, folder: Path, tags: dict[str, str]) -> str:
    """Make a data asset of a step's output; its version is the hash of its content.

    Returns: the asset's address.

    Raises:
        UserError: Azure refuses.
    """
    manifest = read_manifest(folder)
    assert manifest
    return data_asset(at, f"tunewright-{spec.name}-{step}", manifest.content[:DIGITS], folder, tags)


def _is_there(operations: Any, name: str, version: str, tags: dict[str, str]) -> bool:
    """Whether a version exists. Its name says what it contains only if we made it, which its tags show.

    Raises:
        UserError: Azure refuses, or somebody else made it.
    """
    with azure_errors(f"the asset {name}"):
        known = found(operations.get, name, version)
    if known is None:
        return False
    if not tags.keys() <= (known.tags or {}).keys():
        raise UserError(
            f"There is an asset {name}:{version} in the workspace that Tunewright did not make.",
            fix="Give the spec another `name`: the names of assets contain it.",
        )
    return True


def _register(at: Connection, name: str, version: str, where: str, kind: str, tags: dict[str, str]) -> None:
    """Make a data asset of files that lie in the storage."""
    from azure.ai.ml.entities import Data

    with azure_errors(f"the data asset {name}:{version}"):
        _create(at.ml.data, Data(name=name, version=version, path=where, type=kind, tags=tags), tags)


def _create(operations: Any, entity: Any, tags: dict[str, str]) -> None:
    """Make a version of an asset. If another process of ours made it meanwhile, that one is as good, because the
    version is a hash of the content."""
    from azure.core.exceptions import ResourceExistsError

    try:
        # The SDK writes terminal colours to standard error after each upload.
        with contextlib.redirect_stderr(io.StringIO()):
            operations.create_or_update(entity)
    except ResourceExistsError:
        if not _is_there(operations, entity.name, entity.version, tags):
            raise


def code_asset(at: Connection, name: str, spec_text: str, tags: dict[str, str]) -> str:
    """The asset of this package and a spec, so that a job runs the code that runs here."""
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / "tunewright.tar.gz"
        packed.write_bytes(package(spec_text))
        return data_asset(at, name, sha256_file(packed)[:DIGITS], packed, tags)


def package(spec_text: str) -> bytes:
    """The package's sources and `tunewright.yaml` as a .tar.gz; the same content gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        _add(archive, "tunewright.yaml", spec_text.encode())
        for path in package_files():
            _add(archive, f"tunewright/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes())
    return buffer.getvalue()


def package_files() -> list[Path]:
    """The sources of this package."""
    return sorted(path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def index_of(spec: Spec) -> str:
    """The part of a Dockerfile's ENV that names pip's index; empty for PyPI."""
    return f" PIP_INDEX_URL={spec.azure.package_index}" if spec.azure.package_index else ""


@dataclass(frozen=True)
class JobImage:
    """The image that jobs run in, with the versions that are installed here."""

    dockerfile: str
    pins: str

    @classmethod
    def of(cls, spec: Spec) -> Self:
        base = spec.azure.base_images.get("jobs") or python_base(".".join(platform.python_version_tuple()[:2]))
        return cls(_DOCKERFILE.format(base=base, index=index_of(spec)), requirements())

    @property
    def version(self) -> str:
        """A hash of all that the image is built of."""
        return sha256_json([self.dockerfile, self.pins])[:DIGITS]

    @property
    def name(self) -> str:
        """`repository:tag`."""
        return f"{_STEPS}:{self.version}"

    def lay_out(self, folder: Path) -> None:
        """Write the files that the image is built of into an existing folder."""
        (folder / "Dockerfile").write_text(self.dockerfile, "utf-8")
        (folder / "requirements.txt").write_text(self.pins, "utf-8")


def environment(at: Connection, spec: Spec, tags: dict[str, str]) -> str:
    """The environment that jobs run in. It uses the image that the spec names, or one with the versions that are
    installed here, which Azure builds once for each set of pins.

    Raises:
        UserError: Azure refuses, or the image was built of other pins.
    """
    from azure.ai.ml.entities import BuildContext, Environment

    named, ours = spec.azure.job_image, JobImage.of(spec)
    if named and re.search(rf"/{_STEPS}:[0-9a-f]{{{DIGITS}}}$", named) and not named.endswith(f"/{ours.name}"):
        raise UserError(
            f"azure.job_image was built with other packages than those installed here: {named}.",
            why=f"An image built today would be {ours.name}.",
            fix="Build it again: tunewright azure image PROJECT FOLDER",
        )
    version = sha256_json(named)[:DIGITS] if named else ours.version

    def build(scratch: Path) -> Any:
        origin = f"of {named}" if named else "Azure builds its image with the first job"
        say(f"  azure: environment {_STEPS}, version {version}; {origin}")
        if named:
            return Environment(name=_STEPS, version=version, image=named, tags=tags)
        ours.lay_out(scratch)
        context = BuildContext(path=str(scratch), dockerfile_path="Dockerfile")
        return Environment(name=_STEPS, version=version, build=context, tags=tags)

    return image(at, _STEPS, version, build, tags)


def image(at: Connection, name: str, version: str, build: Callable[[Path], Any], tags: dict[str, str]) -> str:
    """Make an environment, unless it exists.

    Args:
        version: a hash of all that its image is built of.
        build: writes those files into a folder, and returns the SDK's environment.

    Returns: the environment's address.

    Raises:
        UserError: Azure refuses, or somebody else made it.
    """
    if not _is_there(at.ml.environments, name, version, tags):
        with tempfile.TemporaryDirectory() as scratch, azure_errors(f"the environment {name}:{version}"):
            _create(at.ml.environments, build(Path(scratch)), tags)
    return f"azureml:{name}:{version}"


def requirements() -> str:
    """The requirements.txt of jobs. If the torch installed here is a build for a certain CUDA version, jobs get the
    same build from its index: a node's driver may be too old for the package index's build."""
    pins = pinned(_EXTRAS)
    cuda = distribution("torch").version.partition("+")[2] if _installed("torch") else ""
    if not cuda.startswith("cu"):
        return "\n".join(pins) + "\n"
    pins = [f"{pin}+{cuda}" if pin.startswith("torch==") else pin for pin in pins]
    return "\n".join([f"--extra-index-url {_TORCH_INDEX}/{cuda}", *pins]) + "\n"


def pinned(extras: Iterable[str]) -> list[str]:
    """Tunewright's requirements for pip: installed packages in exactly their versions, others in their ranges."""
    pins: dict[str, str] = {}
    queue: list[tuple[str, frozenset[str]]] = [("tunewright", frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        name, name_extras = queue.pop()
        if (name, name_extras) in seen:
            continue
        seen.add((name, name_extras))
        for requirement in _required(name, name_extras):
            key = _normal(requirement.name)
            version = _installed(key)
            if key != "tunewright":
                pins[key] = f"{key}=={version}" if version else f"{key}{requirement.specifier}"
            if version or key == "tunewright":
                queue.append((key, frozenset(requirement.extras)))
    return sorted(pins.values())


@cache  # what is installed does not change while a command runs, and reading it takes 0.3 s
def _required(name: str, extras: frozenset[str]) -> list[Any]:
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in requires(name) or ()]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


@cache
def _installed(name: str) -> str | None:
    """The version that is installed here, without a local build's label."""
    try:
        return distribution(name).version.partition("+")[0]
    except PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def kept_output(at: Connection, name: str, content: str, address: str, tags: dict[str, str]) -> None:
    """Make a data asset of a job's output, under the hash of its content; no byte moves.

    Raises:
        UserError: Azure refuses.
    """
    version = content[:DIGITS]
    if not _is_there(at.ml.data, name, version, tags):
        _register(at, name, version, address, "uri_folder", tags)
