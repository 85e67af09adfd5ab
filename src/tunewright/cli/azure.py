"""`tunewright azure`: look before a cent is spent, run by the calendar, and clear away afterwards."""

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
    help="The Azure side: preflight, probe, schedules, what stands there, and taking it down.", no_args_is_help=True
)

EveryOption = Annotated[Literal["week", "month", "quarter"], typer.Option("--every", help="How often to retrain.")]
HourOption = Annotated[int, typer.Option("--hour", min=0, max=23, help="Hour of the day, UTC.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
TargetOption = Annotated[
    Literal["aml", "aca", "aks"] | None, typer.Option("--to", help="Also what deploying there needs.")
]
ProbedOption = Annotated[Path, typer.Option("--out", help="The file; nothing in it identifies you.")]
SizeOption = Annotated[str, typer.Option("--size", help="The machine.")]


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
    """Check sign-in, roles, storage, region, sizes, quota, memory and price; each ✗ with its remedy."""
    from tunewright import api, load_spec

    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, "azure", emulate) as (spec, _):
        checks = api.preflight(spec, deploy=to)
    print_checks(checks, json)


@app.command("probe")
def probe(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    out: ProbedOption = Path("azure-probe.json"),
    yes: YesOption = False,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Ask the subscription which of the rules hold that Tunewright relies on. It takes a minute and costs next to
    nothing; exit code 1 where one does not hold."""
    from tunewright import api, load_spec
    from tunewright.backends.azure.probe import outlook

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    typer.echo(outlook(spec), err=True)
    if not (yes or emulate):
        typer.confirm("Begin?", abort=True, err=True)
    with placed(spec, "azure", emulate) as (spec, _):
        found = api.probe(spec)
    found.write(out)
    if json:
        print_json(found.shareable())
    else:
        for row in found.rows:
            typer.echo(row.sentence)
        for name, said in found.notes.items():
            typer.echo(f"{name}: {said}")
    typer.echo(f"{out}: nothing in it says who you are; to send it helps (docs/azure.md)", err=True)
    if not found.passed:
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
    """Retrain by the calendar, on the data that lie in the workspace by then."""
    from tunewright import api, load_spec

    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, "azure", emulate) as (spec, _):
        found = api.schedule(spec, every, hour)
    if json:
        print_json(asdict(found))
    else:
        typer.echo(f"{found.name} runs {', '.join(found.steps)} {found.when} on {found.folder}")


@app.command("ls")
def ls(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """List everything of a project that costs money in Azure, or may come to."""
    from tunewright import load_spec

    with placed(load_spec(project, overrides or (), allow_code=allow_code), "azure", emulate) as (spec, _):
        found, unseen = _standing(spec)
    if json:
        print_json([{"kind": each.kind, "name": each.name, "said": each.said} for each in found])
    else:
        _tell(found, unseen)
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
    """Take away everything of a project that costs money, and only that; data and models stay."""
    from tunewright import load_spec
    from tunewright.deploy.down import take_down

    with placed(load_spec(project, overrides or (), allow_code=allow_code), "azure", emulate) as (spec, _):
        found, unseen = _standing(spec)
        _tell(found, unseen)
        if not found or yes or typer.confirm("Take all of these away?"):
            take_down(found, unseen)


@app.command("image")
def image(
    project: ProjectArgument,
    folder: Annotated[Path, typer.Argument(help="A new folder for its Dockerfile.")],
    overrides: OverridesArgument = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Lay out what the image of jobs is built of, to build it where Azure can't reach the package index."""
    from tunewright import load_spec
    from tunewright.backends.azure.assets import JobImage

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError("The folder is there already.", where=folder, fix="Name a new one.") from None
    made = JobImage.of(spec)
    made.lay_out(folder)
    typer.echo(
        f"docker build --platform linux/amd64 --tag REGISTRY.azurecr.io/{made.name} {folder}\n"
        f"az acr login --name REGISTRY && docker push REGISTRY.azurecr.io/{made.name}\n"
        f"Then name it in the spec: azure.job_image=REGISTRY.azurecr.io/{made.name}"
    )


@app.command("notebook")
def notebook(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    size: SizeOption = "Standard_D4s_v3",
    emulate: EmulateOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Make a compute instance for notebooks in the workspace; it stops by itself when nobody uses it."""
    from tunewright import api, load_spec

    with placed(load_spec(project, overrides or (), allow_code=allow_code), "azure", emulate) as (spec, _):
        typer.echo(api.notebook(spec, size))


def _standing(spec: Spec) -> tuple[list[Thing], Unseen | None]:
    """(what stands of a project, and that not everything could be looked at)."""
    from tunewright import api
    from tunewright.deploy.down import Unseen

    try:
        return api.standing(spec), None
    except Unseen as error:
        return error.found, error


def _tell(found: list[Thing], unseen: Unseen | None) -> None:
    for each in found:
        typer.echo(f"{each.kind} {each.name}: {each.said}")
    if not found and not unseen:
        typer.echo("Nothing of this project stands in Azure that costs anything.")
