"""`tunewright push`: upload a project's model to the Hugging Face Hub or to Azure Machine Learning."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tunewright.cli.backends import EmulateOption, placed
from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    print_json,
)
from tunewright.core.errors import UserError

ToOption = Annotated[
    str,
    typer.Option("--to", metavar="WHERE", help="hub:owner/name, azureml (the spec's workspace) or azureml:REGISTRY."),
]
FormOption = Annotated[
    Literal["merged", "adapter", "gguf", "bundle"] | None,
    typer.Option(
        "--form",
        help="merged: 16-bit weights; adapter: LoRA weights for its base; gguf: the files of export --to gguf; bundle: "
        "for tunewright serve. (default: merged; for an encoder or a linear model: bundle)",
    ),
]
PublicOption = Annotated[bool, typer.Option("--public", help="Make it public on the hub. (default: private)")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be uploaded and deleted; change nothing.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def push(
    project: ProjectArgument,
    to: ToOption,
    overrides: OverridesArgument = None,
    form: FormOption = None,
    public: PublicOption = False,
    runs: RunsOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Upload a project's latest model with its card and system prompt, but without data, to a hub or a registry."""
    from tunewright import api, load_spec
    from tunewright.exporters.hub import changes_on_hub

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    parcel = api.parcel(spec, form, to, runs=runs)
    if public and not to.startswith("hub:"):
        raise UserError("--public is for the hub.", fix="Leave --public out: Azure decides who may read a registry.")
    changes = None
    if dry_run or not yes:
        for line in parcel.lines():
            typer.echo(line, err=json)
        if to.startswith("hub:"):
            try:
                changes = changes_on_hub(parcel, to.removeprefix("hub:"))
            except UserError as error:
                if not dry_run:
                    raise
                typer.echo(
                    f"What the repository has was not looked at: {error.what} {error.fix or ''}".rstrip(), err=True
                )
            for line in changes.lines() if changes else ():
                typer.echo(line, err=json)
        typer.echo(f"{parcel.size / 1e6:10.1f} MB  to {to}, {'public' if public else 'private'}", err=json)
    if dry_run and json:
        print_json(
            {
                "to": to,
                "public": public,
                "form": parcel.form,
                "version": parcel.version,
                "bytes": parcel.size,
                "files": parcel.sizes,
                **({"deleted": changes.deleted, "replaced": changes.replaced} if changes else {}),
            }
        )
    if dry_run or not (yes or typer.confirm("Upload it?", err=json)):
        return
    with placed(spec, "azure" if to.startswith("azureml") else "local", emulate) as (spec, _):
        pushed = api.push(spec, parcel, to, public=public)
    if json:
        print_json({"address": pushed.address, "version": pushed.version, "files": sorted(parcel.files)})
    else:
        typer.echo(f"{pushed.address}  version {pushed.version[:16]}")
