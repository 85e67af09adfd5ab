"""`tunewright adapters`: many tuned models in one server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Manage the models of one server: adapters of one base, encoders, linear models.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(help="The folder of the models.")]
NameArgument = Annotated[str, typer.Argument(help="The model's name, as requests give it in their field `model`.")]


@app.command("add")
def add(
    folder: FolderArgument,
    bundle: Annotated[
        Path,
        typer.Argument(
            help="A bundle, or a project whose latest bundle is added. A language model must be exported with "
            "export.runtime=openvino-lora."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="The model's name. (default: the bundle's)")] = None,
) -> None:
    """Add a model, or a new version of a model. A running server uses it from the next request on."""
    from tunewright.serving.adapters import add_adapter
    from tunewright.serving.served import bundle_of

    version = add_adapter(folder, bundle_of(bundle), name)
    typer.echo(f"{version.name} is served in version {version.number}.")


@app.command("ls")
def ls(folder: FolderArgument) -> None:
    """List the models, each with its served version and its kept versions."""
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
    """Serve a model's previous version again. No request is dropped."""
    from tunewright.serving.adapters import AdapterStore

    version = AdapterStore(folder).roll_back(name)
    typer.echo(f"{version.name} is served in version {version.number}.")


@app.command("rm")
def rm(folder: FolderArgument, name: NameArgument) -> None:
    """Stop serving a model, and delete all its versions."""
    from tunewright.serving.adapters import AdapterStore

    AdapterStore(folder).remove(name)
