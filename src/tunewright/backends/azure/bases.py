"""The base images of our images: Python images in Microsoft's own registry, by digest.

Docker Hub limits pulls, and a private workspace can't reach it. A managed network always lets Microsoft's registry
through (rule reaches-microsofts-registry).
"""

from __future__ import annotations

from tunewright.backends.azure.connection import Connection
from tunewright.config import Spec
from tunewright.core.errors import UserError

_IMAGE, _RELEASE = "mcr.microsoft.com/devcontainers/python", "3.2.6"
_DIGESTS = {
    "3.11": "1eb48ffd772f0618d66844eff8cbfd9914785be25f6a936d0756a1ddfc866cc3",
    "3.12": "823163b2c6e886e21374e8e7da4611808349fcb8106c1a97e68ee0c18e83ca8e",
    "3.13": "5ea7e72d3c1beb6aefdfea8001483345c39af4898e22f2c543deb6a00802ede4",
    "3.14": "28835c112fd097cb6d2fe1e195b660d66ae051859070a9b871fa2308f35897d3",
}
"""Digests of the release on Debian 13, for amd64 and arm64, each with git and a compiler. Source:
github.com/devcontainers/images, src/python/history/3.2.6.md (read 2026-11-28)."""
SERVED_PYTHON = "3.12"
"""The Python of the serving images, as in infra/docker/Dockerfile."""
_VLLM = "vllm/vllm-openai:v0.32.0"
"""The base of the serving image for GPUs, as in infra/docker/Dockerfile. Only Docker Hub has it."""


def python_base(version: str) -> str:
    """The image with a version of Python, such as "3.12"; Docker Hub's if Microsoft's registry lacks that version."""
    digest = _DIGESTS.get(version)
    return f"{_IMAGE}:{_RELEASE}-{version}-trixie@sha256:{digest}" if digest else f"python:{version}"


def on_reachable_bases(spec: Spec, at: Connection) -> Spec:
    """A spec whose server's base image its workspace can reach: Microsoft's in a private workspace, otherwise Docker
    Hub's, which is smaller.

    Raises:
        UserError: Azure does not say whether the workspace is private.
    """
    bases = spec.azure.base_images
    if "serve" in bases or not at.is_private:
        return spec
    azure = spec.azure.model_copy(update={"base_images": bases | {"serve": python_base(SERVED_PYTHON)}})
    return spec.model_copy(update={"azure": azure})


def require_reachable(spec: Spec, at: Connection, engine: str) -> None:
    """Refuse an engine whose base image the workspace can't reach: vLLM in a private workspace, unless the spec names
    an image for it.

    Args:
        engine: a stage of infra/docker/Dockerfile.

    Raises:
        UserError: the image can't be reached, or Azure does not say whether the workspace is private.
    """
    if engine != "vllm" or engine in spec.azure.base_images or not at.is_private:
        return
    registry = str(at.workspace.container_registry or "").rpartition("/")[2] or "REGISTRY"
    image = _VLLM.rpartition("/")[2]
    # Azure also imports into a registry that is closed to the public network, and takes layers above 2 GiB since 2025
    # (learn.microsoft.com/azure/container-registry/container-registry-import-images;
    # github.com/MicrosoftDocs/azure-management-docs/pull/47; read 2026-11-29).
    raise UserError(
        "The image for vLLM can't be built in a private workspace.",
        where="azure.base_images.vllm",
        why=f"It is built on {_VLLM}, which only Docker Hub has, and {at.name.workspace} can't reach Docker Hub.",
        fix=f"Import it into the workspace's registry once: az acr import --name {registry} --source docker.io/{_VLLM} "
        f"--image {image}; and name it: azure.base_images.vllm={registry}.azurecr.io/{image}",
    )
