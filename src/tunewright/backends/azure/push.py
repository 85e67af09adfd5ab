"""Registers a parcel as a model of the workspace, and shares it with a registry that several workspaces use."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tunewright.backends.azure import assets
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.registry import Registered, enter, next_version, versions, with_content
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.exporters.artifact import Parcel
from tunewright.exporters.hub import Pushed

_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,31}[A-Za-z0-9]", re.ASCII)


def check_registry(name: str) -> None:
    """Refuse a name that no registry can have.

    Raises:
        UserError: it is not the name of a registry.
    """
    if name and not _REGISTRY.fullmatch(name):
        raise UserError(
            f"'{name}' can't be the name of an Azure Machine Learning registry.",
            where="--to",
            fix="azureml:NAME means a registry, azureml alone the workspace of the spec.",
        )


def push_to_azure(spec: Spec, at: Connection, parcel: Parcel, registry: str = "") -> Pushed:
    """Register a parcel as a model. The same content is registered only once.

    Args:
        registry: the registry to share it with; empty: it stays in the workspace.

    Raises:
        UserError: Azure refuses.
    """
    check_registry(registry)
    name = f"{TAG}-{spec.name}-{parcel.form}"
    known = versions(at, name)
    model = with_content(parcel.version, known)
    if model is None:
        with tempfile.TemporaryDirectory() as scratch:
            parcel.lay_out(Path(scratch))
            output = assets.data_asset(at, name, parcel.version, Path(scratch), {TAG: spec.name})
        model = enter(
            at,
            name,
            known,
            parcel.version,
            output,
            tags={TAG: spec.name, "form": parcel.form},
            properties={"tunewright.base_model": spec.model_name},
            description=f"The Tunewright job {spec.name} as {parcel.form}; README.md says how to use it.",
        )
        say(f"  azure: model {name}, version {model.version}")
    if not registry:
        return Pushed(model.address, model.version)
    with azure_errors(f"the registry {registry}"):
        version = _share(at, registry, model)
    return Pushed(f"azureml://registries/{registry}/models/{name}/versions/{version}", version)


def _share(at: Connection, registry: str, model: Registered) -> str:
    """Share a model with a registry, if it is not there yet, and return its version there. Other workspaces may use the
    same name."""
    with at.ml.models._set_registry_client(registry):
        known = versions(at, model.name)
        if shared := with_content(model.content, known):
            return shared.version
        version = next_version(at, model.name, known)
    at.ml.models.share(
        model.name, model.version, share_with_name=model.name, share_with_version=version, registry_name=registry
    )
    say(f"  azure: shared with the registry {registry}, version {version}")
    return version
