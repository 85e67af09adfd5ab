"""`tunewright adapters`: many tuned models that one server has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Many models that one server has: adapters beside one base, encoders, linear models.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(help="The folder of the models.")]
NameArgument = Annotated[str, typer.Argument(help="The model's name, by which requests choose it: model.")]


@app.command("add")
def add(
    folder: FolderArgument,
    bundle: Annotated[
        Path,
        typer.Argument(
            help="A bundle, or a project whose latest it is; of a language model, exported with "
            "export.runtime=openvino-lora."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Its name here. (default: the bundle's)")] = None,
) -> None:
    """Add a model, or a new version of one. A running server serves it from the next request on."""
    from tunewright.api import bundle_of
    from tunewright.serving.adapters import add_adapter

    version = add_adapter(folder, bundle_of(bundle), name)
    typer.echo(f"{version.name} is served in version {version.number}.")


@app.command("ls")
def ls(folder: FolderArgument) -> None:
    """List the models, with the version that is served and those that are kept."""
    from tunewright.inference.runtimes.base import is_classifier
    from tunewright.serving.adapters import AdapterStore

    store = AdapterStore(folder)
    if store.base:
        typer.echo(f"{store.base.name} in {store.base.precision}, the base")
    for name, info in store.infos().items():
        if version := store.current(name):
            kept = ", ".join(map(str, store.versions(name)))
            alone = f"  {info.base_model} in {info.precision}" if is_classifier(info.runtime) else ""
            typer.echo(f"{name}  version {version.number} of {kept}{alone}")


@app.command("rollback")
def rollback(folder: FolderArgument, name: NameArgument) -> None:
    """Serve the version before; no request is dropped."""
    from tunewright.serving.adapters import AdapterStore

    version = AdapterStore(folder).roll_back(name)
    typer.echo(f"{version.name} is served in version {version.number}.")


@app.command("rm")
def rm(folder: FolderArgument, name: NameArgument) -> None:
    """Serve a model no more, and remove all its versions."""
    from tunewright.serving.adapters import AdapterStore

    AdapterStore(folder).remove(name)
