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
    typer.Option(
        "--to", help="aml: a managed endpoint; aks: a Kubernetes cluster; aca: Container Apps, which scale to zero."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be created and its price; create nothing.")
]
CanaryOption = Annotated[
    int | None,
    typer.Option("--canary", min=1, max=99, help="Percent of the traffic for the new version until you decide."),
]
MirrorOption = Annotated[
    int | None,
    typer.Option(
        "--mirror", min=1, max=50, help="Percent of the requests that it gets as copies, instead of traffic (aml)."
    ),
]
PromoteOption = Annotated[bool, typer.Option("--promote", help="End a canary: it gets all traffic.")]
RollbackOption = Annotated[
    bool, typer.Option("--rollback", help="End a canary: delete it; the version before gets all traffic.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="With --rollback: do not ask for confirmation, even if nothing else serves.")
]
IdentityOption = Annotated[
    Path | None,
    typer.Option("--identity", help="The sign-in file for clients of a container app, as of tunewright serve."),
]
AnywayOption = Annotated[bool, typer.Option("--anyway", help="Deploy even if the project's verdict is against it.")]


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
    """Deploy a project's latest bundle to Azure beside the version that serves now, test it, and switch to it."""
    from tunewright import api, load_spec

    if sum((dry_run, canary is not None, mirror is not None, promote, rollback)) > 1:
        raise UserError("--dry-run, --canary, --mirror, --promote and --rollback don't go together.", fix="Choose one.")
    if yes and not rollback:
        raise UserError("--yes goes with --rollback alone.", fix="Leave --yes out.")
    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, "azure", emulate) as (spec, _):
        if dry_run:
            plan = api.deployment(spec, to, runs=runs, identity=identity)
            if json:
                print_json(asdict(plan) | {"usd_per_month": plan.usd_per_month})
            else:
                typer.echo("\n".join(plan.lines))
        elif promote or rollback:
            version = api.conclude(spec, to, promote=promote, confirm=(lambda *_: True) if yes else _is_typed)
            if json:
                ended = {"project": spec.name, "target": to, "version": version}
                print_json({"promoted" if promote else "rolled_back": ended})
        else:
            released = api.deploy(spec, to, runs=runs, canary=canary, mirror=mirror, identity=identity, anyway=anyway)
            if json:
                print_json(asdict(released))
            else:
                typer.echo(
                    f"{released.name} ({released.target}) has {released.percent} % of the traffic: "
                    f"{released.trial.sentence}"
                )


def _is_typed(name: str, warning: str) -> bool:
    """Whether the user confirms a deletion by typing the name."""
    typer.echo(warning, err=True)
    try:
        typed = typer.prompt(f"Type {name} to delete it", default="", show_default=False, err=True)
    except typer.Abort:
        return False
    return str(typed).strip() == name
