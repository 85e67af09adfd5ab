"""`tunewright azure`: check a workspace before a run, schedule runs, and delete what costs money."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunewright.cli.backends import EmulateOption, placed
from tunewright.cli.doctor import print_checks
from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    print_json,
)
from tunewright.core.errors import EXIT_GATE, UserError

if TYPE_CHECKING:
    from tunewright.config import Spec
    from tunewright.deploy.down import Thing, Unseen

app = typer.Typer(
    help="Work with Azure: preflight checks, a probe of its rules, schedules, images, and deleting what costs money.",
    no_args_is_help=True,
)

EveryOption = Annotated[Literal["week", "month", "quarter"], typer.Option("--every", help="How often to retrain.")]
HourOption = Annotated[int, typer.Option("--hour", min=0, max=23, help="Hour of the day, UTC.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
TargetOption = Annotated[
    Literal["aml", "aca", "aks"] | None, typer.Option("--to", help="Also check what a deployment there needs.")
]
ProbeOption = Annotated[Path, typer.Option("--out", help="The output file. It holds nothing that identifies you.")]
SizeOption = Annotated[str, typer.Option("--size", help="The VM size.")]


@app.command("preflight")
def preflight(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    to: TargetOption = None,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Check sign-in, roles, storage, region, sizes, quota, memory and price. Each ✗ comes with a remedy."""
    from tunewright import api, load_spec

    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, "azure", emulate) as (spec, _):
        checks = api.preflight(spec, deploy=to)
    print_checks(checks, json)


@app.command("probe")
def probe(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    out: ProbeOption = Path("azure-probe.json"),
    yes: YesOption = False,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Check in your subscription whether Azure's rules hold that Tunewright relies on.

    It takes a minute and costs next to nothing. Exit code 1 if a rule does not hold."""
    from tunewright import api, load_spec
    from tunewright.backends.azure.probe import outlook

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    typer.echo(outlook(spec), err=True)
    if not (yes or emulate):
        typer.confirm("Start?", abort=True, err=True)
    with placed(spec, "azure", emulate) as (spec, _):
        result = api.probe(spec)
    result.write(out)
    if json:
        print_json(result.shareable())
    else:
        for row in result.rows:
            typer.echo(row.sentence)
        for name, note in result.notes.items():
            typer.echo(f"{name}: {note}")
    typer.echo(f"{out}: it holds nothing that identifies you. Please send it to us (docs/azure.md)", err=True)
    if not result.passed:
        raise typer.Exit(EXIT_GATE)


@app.command("schedule")
def schedule(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    every: EveryOption = "month",
    hour: HourOption = 3,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Schedule retraining by the calendar, each time on the data that the workspace then holds."""
    from tunewright import api, load_spec

    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, "azure", emulate) as (spec, _):
        scheduled = api.schedule(spec, every, hour)
    if json:
        print_json(asdict(scheduled))
    else:
        typer.echo(f"{scheduled.name} runs {', '.join(scheduled.steps)} {scheduled.when} on {scheduled.folder}")


@app.command("ls")
def ls(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """List everything of a project in Azure that costs money or may cost money."""
    from tunewright import load_spec

    with placed(load_spec(project, overrides or (), allow_code=allow_code), "azure", emulate) as (spec, _):
        found, unseen = _standing(spec)
    if json:
        print_json([{"kind": each.kind, "name": each.name, "said": each.cost} for each in found])
    else:
        _print_standing(found, unseen)
    if unseen:
        raise unseen


@app.command("down")
def down(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    yes: YesOption = False,
    emulate: EmulateOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Delete everything of a project in Azure that costs money, and only that. Data and models stay."""
    from tunewright import load_spec
    from tunewright.deploy.down import take_down

    with placed(load_spec(project, overrides or (), allow_code=allow_code), "azure", emulate) as (spec, _):
        found, unseen = _standing(spec)
        _print_standing(found, unseen)
        if not found or yes or typer.confirm("Delete all of these?"):
            take_down(found, unseen)


@app.command("image")
def image(
    project: ProjectArgument,
    folder: Annotated[Path, typer.Argument(help="A new folder for the Dockerfile and its files.")],
    overrides: OverridesArgument = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write the build files of the job image, to build it yourself if Azure can't reach the package index."""
    from tunewright import load_spec
    from tunewright.backends.azure.assets import JobImage

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError("This folder exists already.", where=folder, fix="Name a new one.") from None
    job_image = JobImage.of(spec)
    job_image.lay_out(folder)
    typer.echo(
        f"docker build --platform linux/amd64 --tag REGISTRY.azurecr.io/{job_image.name} {folder}\n"
        f"az acr login --name REGISTRY && docker push REGISTRY.azurecr.io/{job_image.name}\n"
        f"Then name it in the spec: azure.job_image=REGISTRY.azurecr.io/{job_image.name}"
    )


@app.command("notebook")
def notebook(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    size: SizeOption = "Standard_D4s_v3",
    emulate: EmulateOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Create a compute instance for notebooks in the workspace. It stops by itself when idle."""
    from tunewright import api, load_spec

    with placed(load_spec(project, overrides or (), allow_code=allow_code), "azure", emulate) as (spec, _):
        typer.echo(api.notebook(spec, size))


def _standing(spec: Spec) -> tuple[list[Thing], Unseen | None]:
    """(a project's things in Azure, the error if some could not be listed)."""
    from tunewright import api
    from tunewright.deploy.down import Unseen

    try:
        return api.standing(spec), None
    except Unseen as error:
        return error.found, error


def _print_standing(found: list[Thing], unseen: Unseen | None) -> None:
    for each in found:
        typer.echo(f"{each.kind} {each.name}: {each.cost}")
    if not found and not unseen:
        typer.echo("This project has nothing in Azure that costs money.")
