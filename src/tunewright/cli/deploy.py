"""`tunewright deploy`: serve a project's bundle in Azure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunewright.cli.backends import EmulateOption, placed
from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    print_json,
)
from tunewright.core.errors import UserError

ToOption = Annotated[
    Literal["aml", "aks", "aca"],
    typer.Option("--to", help="aml: a managed endpoint; aks: a Kubernetes cluster; aca: Container Apps, to zero."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be made and its price; make nothing.")]
CanaryOption = Annotated[
    int | None,
    typer.Option("--canary", min=1, max=99, help="Percent of the traffic for the new version, until you decide."),
]
MirrorOption = Annotated[
    int | None,
    typer.Option(
        "--mirror", min=1, max=50, help="In place of traffic: percent of the requests it gets copies of (aml)."
    ),
]
PromoteOption = Annotated[bool, typer.Option("--promote", help="End a canary: it serves all.")]
RollbackOption = Annotated[
    bool, typer.Option("--rollback", help="End a canary: it goes, what served before serves all. Refused without one.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="With --rollback: do not ask, even where nothing else serves.")]
IdentityOption = Annotated[
    Path | None, typer.Option("--identity", help="Who may ask a container app, as tunewright serve --identity has it.")
]
AnywayOption = Annotated[bool, typer.Option("--anyway", help="Even where the project's own verdict is against it.")]


def deploy(
    project: ProjectArgument,
    to: ToOption,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    dry_run: DryRunOption = False,
    canary: CanaryOption = None,
    mirror: MirrorOption = None,
    promote: PromoteOption = False,
    rollback: RollbackOption = False,
    yes: YesOption = False,
    identity: IdentityOption = None,
    anyway: AnywayOption = False,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Serve a project's latest bundle in Azure: beside what serves now, on trial, then in its place or not at all."""
    from tunewright import api, load_spec

    if sum((dry_run, canary is not None, mirror is not None, promote, rollback)) > 1:
        raise UserError("--dry-run, --canary, --mirror, --promote and --rollback don't go together.", fix="Choose one.")
    if yes and not rollback:
        raise UserError("--yes goes with --rollback alone.", fix="Leave it out.")
    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, "azure", emulate) as (spec, _):
        if dry_run:
            plan = api.deployment(spec, to, runs=runs, identity=identity)
            if json:
                print_json(asdict(plan) | {"usd_per_month": plan.usd_per_month})
            else:
                typer.echo("\n".join(plan.lines))
        elif promote or rollback:
            api.conclude(spec, to, promote=promote, confirm=(lambda *_: True) if yes else _is_typed)
        else:
            found = api.deploy(spec, to, runs=runs, canary=canary, mirror=mirror, identity=identity, anyway=anyway)
            if json:
                print_json(asdict(found))
            else:
                typer.echo(
                    f"{found.name} ({found.target}) has {found.percent} % of the traffic: {found.trial.sentence}"
                )


def _is_typed(name: str, what: str) -> bool:
    """Whether a person types the name of what is about to go."""
    typer.echo(what, err=True)
    try:
        return (
            str(typer.prompt(f"Type {name} to take it away", default="", show_default=False, err=True)).strip() == name
        )
    except typer.Abort:
        return False
