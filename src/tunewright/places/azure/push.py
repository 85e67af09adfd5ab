"""A parcel as a model of the workspace, and from there in a registry that several workspaces share."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tunewright.errors import UserError
from tunewright.export.hub import Pushed
from tunewright.export.parcel import Parcel
from tunewright.places.azure import assets
from tunewright.places.azure.connection import Connection, azure_errors, found
from tunewright.places.azure.place import TAG
from tunewright.progress import say
from tunewright.spec import Spec

_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,31}[A-Za-z0-9]", re.ASCII)


def check_registry(name: str) -> None:
    """Refuse what is no name of a registry.

    Raises:
        UserError: it is none.
    """
    if name and not _REGISTRY.fullmatch(name):
        raise UserError(
            f"'{name}' is no name of an Azure Machine Learning registry.", where="--to",
            fix="azureml:NAME is a registry, azureml alone the workspace of the spec.",
        )  # fmt: skip


def push_to_azure(spec: Spec, at: Connection, parcel: Parcel, registry: str = "") -> Pushed:
    """Enter a parcel as a model whose version is a hash of its content; the same content is entered once.

    Args:
        registry: where it is shared too; none: it stays in the workspace.

    Raises:
        UserError: Azure refuses.
    """
    from azure.ai.ml.entities import Model

    check_registry(registry)
    name, version = f"{TAG}-{spec.name}-{parcel.form}", parcel.version
    with azure_errors(f"the model {name}"):
        known = found(at.ml.models.get, name, version)
    if known is None:
        with tempfile.TemporaryDirectory() as scratch:
            parcel.lay_out(Path(scratch))
            output = assets.data_asset(at, name, version, Path(scratch), {TAG: spec.name})
        with azure_errors(f"the model {name}"):
            path = at.ml.data.get(*output.split(":")[1:]).path
            at.ml.models.create_or_update(
                Model(
                    name=name, version=version, path=path, type="custom_model",
                    tags={TAG: spec.name, "form": parcel.form},
                    properties={"tunewright.base_model": spec.model_name, "tunewright.content": parcel.content},
                    description=f"The Tunewright job {spec.name} as {parcel.form}; how it is asked is in README.md.",
                )
            )  # fmt: skip
        say(f"  azure: model {name}, version {version}")
    if not registry:
        return Pushed(f"azureml:{name}:{version}", version)
    address = f"azureml://registries/{registry}/models/{name}/versions/{version}"
    with azure_errors(f"the registry {registry}"):
        if not _is_shared(at, registry, name, version):
            at.ml.models.share(name, version, share_with_name=name, share_with_version=version, registry_name=registry)
            say(f"  azure: shared with the registry {registry}")
    return Pushed(address, version)


def _is_shared(at: Connection, registry: str, name: str, version: str) -> bool:
    with at.ml.models._set_registry_client(registry):
        return found(at.ml.models.get, name, version) is not None
