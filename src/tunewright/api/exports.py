"""Build bundles and GGUF files, and upload models to a hub or a registry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.api.pipeline import On, bring_up_to_date
from tunewright.config import Spec
from tunewright.core.artifacts import output_folder
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.models.resolve import kind_of
from tunewright.pipeline.fingerprint import code_version
from tunewright.pipeline.runner import point_latest
from tunewright.project import Project

if TYPE_CHECKING:
    from tunewright.exporters.artifact import Form, Parcel
    from tunewright.exporters.gguf.export import GgufFile, Precision
    from tunewright.exporters.hub import Pushed


def export(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Merge and quantize. Returns the folder with `bundle/` and `merged/`."""
    return bring_up_to_date(spec, "export", runs, None, force, on).folder("export")


def export_gguf(
    spec: Spec,
    precisions: Sequence[Precision] = ("q8_0",),
    *,
    runs: Path | None = None,
    force: bool = False,
    on: On = "local",
) -> list[GgufFile]:
    """Write GGUF files for llama.cpp and Ollama, with a Modelfile, to `runs/gguf-…`. Existing files are kept.

    Args:
        precisions: "f16", "q8_0", "q4_k_m"; the last one needs llama.cpp.

    Raises:
        UserError: llama.cpp does not support the model or is not installed, or the disk is too full.
    """
    from tunewright.exporters.gguf.export import export_gguf as write

    if kind_of(spec.model, spec.folder) != "decoder":
        raise UserError(
            f"{spec.model_name} is not a language model, so it has no GGUF file.",
            where="--to",
            why="llama.cpp and Ollama run models that write text, not models that choose labels.",
            fix="Serve its bundle: tunewright serve …",
        )
    done = bring_up_to_date(spec, "export", runs, None, force, on)
    manifest = done.steps["export"].manifest
    folder = output_folder(done.runs, "gguf", manifest.content)
    folder.mkdir(exist_ok=True)
    source = f"{manifest.content} {code_version('exporters')}"
    with sole_writer(folder):
        files = write(spec, done.folder("export"), source, folder, precisions)
    point_latest(done.runs, "gguf", folder)
    return files


def parcel(spec: Spec, form: Form | None, to: str, *, runs: Path | None = None) -> Parcel:
    """Collect what `push` would upload; nothing is uploaded.

    Args:
        form: "merged", "adapter", "gguf" or "bundle"; None: the default of `tunewright.exporters.artifact.parcel_of`.
        to: as in `push`.

    Raises:
        UserError: `to` is not a destination, or the project has no whole output in this form.
    """
    from tunewright.exporters.artifact import parcel_of

    _destination(to)
    return parcel_of(spec, Project(spec.folder, runs).runs.resolve(), form)


def push(spec: Spec, files: Parcel, to: str, *, public: bool = False) -> Pushed:
    """Upload a project's model; see `tunewright.exporters.hub.push_to_hub` and `tunewright.backends.azure.push`.

    Args:
        files: the result of `parcel`.
        to: "hub:owner/name", "azureml" for the spec's workspace, or "azureml:REGISTRY".
        public: whether everybody may read it; for the hub only.

    Raises:
        UserError: `to` is not a destination, or the destination refuses.
    """
    kind, name = _destination(to)
    if kind == "hub":
        from tunewright.exporters.hub import push_to_hub

        return push_to_hub(files, name, public=public)
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.push import push_to_azure

    return push_to_azure(spec, connect(spec), files, name)


def _destination(to: str) -> tuple[str, str]:
    """(hub or azureml, the name there)."""
    from tunewright.backends.azure.push import check_registry
    from tunewright.exporters.hub import check_name

    kind, colon, name = to.partition(":")
    if kind == "hub":
        check_name(name)
    elif kind == "azureml" and bool(name) == bool(colon):
        check_registry(name)
    else:
        raise UserError(
            f"'{to}' is not a destination for a model.",
            where="--to",
            fix="Use hub:owner/name, azureml, or azureml:REGISTRY.",
        )
    return kind, name
