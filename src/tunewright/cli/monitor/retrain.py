"""`tunewright retrain`, `tunewright monitor status` and `tunewright monitor rollback`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunewright.cli.backends import EmulateOption, OnOption, placed
from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    console_of,
    print_json,
)
from tunewright.core.errors import EXIT_GATE, UserError

if TYPE_CHECKING:
    from tunewright.monitoring.retraining.run import Retrained
    from tunewright.monitoring.retraining.status import Status
    from tunewright.project import Serving

IfDueOption = Annotated[
    bool,
    typer.Option(
        "--if-due", help="Start only with monitor.reviews_to_retrain new reviews, or with half of them and an alarm."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print whether retraining is due and what serves; do nothing.")
]
AnywayOption = Annotated[bool, typer.Option("--anyway", help="Train even without new corrections.")]
WarmOption = Annotated[
    bool, typer.Option("--warm", help="Start from the champion's adapter and train half of the epochs.")
]
ShadowOption = Annotated[
    int, typer.Option("--shadow", min=0, help="Captured requests that the new model first answers in shadow.")
]
CanaryOption = Annotated[
    float,
    typer.Option("--canary", min=0, max=50, help="Percent of the requests for the canary; 0: no canary."),
]
CapturesOption = Annotated[
    int, typer.Option("--captures", min=1, help="Different requests that the canary must answer.")
]
MinutesOption = Annotated[float, typer.Option("--minutes", min=0, help="The longest time of a canary, in minutes.")]
ToOption = Annotated[
    Literal["aml", "aks", "aca"] | None,
    typer.Option("--to", help="Where in Azure the model is served; the canary is then a deployment there."),
]
IdentityOption = Annotated[
    Path | None,
    typer.Option("--identity", help="With --to aca: the sign-in file for its clients, as of tunewright deploy."),
]
_TABLE_WIDTH = 110
_SHOWN = 12
"""Rows of the gate's table to print."""


def retrain(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    if_due: IfDueOption = False,
    dry_run: DryRunOption = False,
    anyway: AnywayOption = False,
    warm: WarmOption = False,
    shadow: ShadowOption = 200,
    canary: CanaryOption = 10,
    captures: CapturesOption = 200,
    minutes: MinutesOption = 60,
    on: OnOption = "local",
    to: ToOption = None,
    identity: IdentityOption = None,
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Train on the corrections, and let the new model serve if it proves better. Exit code 1 if it does not."""
    from tunewright import api, load_spec
    from tunewright.monitoring.retraining.canary import CanaryTerms
    from tunewright.monitoring.retraining.run import Course

    spec = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    if if_due or dry_run:
        found = api.serving_status(spec)
        outlook = found.outlook
        typer.echo(outlook.sentence, err=json)
        if dry_run or not outlook.due:
            if json:
                serving = _plain(found)["serving"]
                print_json({"event": None, "due": outlook.due, "sentence": outlook.sentence, "serving": serving})
            elif dry_run:
                _print_serving(found.serving)
            return
    if identity and to != "aca":
        raise UserError("--identity goes with --to aca alone.", fix="Leave it out.")
    terms = CanaryTerms(canary / 100, captures, minutes) if canary else None
    with placed(spec, on, emulate) as (spec, backend):
        retrained = api.retrain(spec, Course(shadow, terms, warm, anyway), on=backend, to=to, identity=identity)
    if json:
        print_json(asdict(retrained))
    else:
        _print(retrained)
    if retrained.event not in (None, "promoted"):
        raise typer.Exit(EXIT_GATE)


def status(project: ProjectArgument, json: JsonOption = False, allow_code: AllowCodeOption = False) -> None:
    """Show which version serves, since when, and how many corrections wait for retraining."""
    from tunewright import api, load_spec

    found = api.serving_status(load_spec(project, allow_code=allow_code))
    if json:
        print_json(_plain(found))
        return
    _print_serving(found.serving)
    for server in found.servers:
        on_trial = f", {server.challenger} on trial" if server.challenger else ""
        typer.echo(
            f"Server {server.address}: {server.champion}{on_trial}{f'; {server.trouble}' if server.trouble else ''}"
        )
    typer.echo(found.outlook.sentence)
    for each in found.history:
        typer.echo(f"{each.time:%Y-%m-%d %H:%M}  {each.event:<11} {each.version}  {each.detail.get('sentence', '')}")


def rollback(project: ProjectArgument, allow_code: AllowCodeOption = False) -> None:
    """End a canary, or let the previous champion serve again. Running servers follow by themselves."""
    from tunewright import api, load_spec

    removed, serving = api.roll_back(load_spec(project, allow_code=allow_code))
    typer.echo(f"{removed} no longer serves; {serving.version} serves.")


def _print_serving(serving: Serving | None) -> None:
    if serving is None:
        typer.echo("There is no champion yet: servers use the latest bundle.")
        return
    typer.echo(f"Champion: {serving.champion.version}, since {serving.champion.since:%Y-%m-%d %H:%M} UTC")
    if trial := serving.challenger:
        typer.echo(f"On trial: {trial.version}, with {trial.share:.0%} of the requests")
    if serving.former:
        typer.echo(f"Before it: {', '.join(each.version for each in serving.former)}")


def _print(retrained: Retrained) -> None:
    decision = retrained.detail.get("decision")
    if decision:
        from rich.table import Table

        table = Table("examples", "", "champion", "challenger", "difference", box=None, pad_edge=False)
        for part in decision["parts"][:_SHOWN]:
            gap = part["paired"]["difference"]
            table.add_row(
                f"{part['count']:,}",
                part["name"] if part["kind"] == "test" else f"{part['kind']} {part['name']}",
                f"{part['champion']:.1%}",
                f"{part['challenger']:.1%}",
                f"{100 * gap['value']:+.1f} ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})",
            )
        console_of(_TABLE_WIDTH).print(table)
        typer.echo(decision["sentence"])
    if not decision or decision["sentence"] != retrained.sentence:
        typer.echo(retrained.sentence)
    typer.echo(f"{retrained.champion} serves.")


def _plain(status: Status) -> dict[str, object]:
    return {
        "serving": status.serving.model_dump(mode="json") if status.serving else None,
        "servers": [each.model_dump(mode="json") for each in status.servers],
        "outlook": asdict(status.outlook) | {"due": status.outlook.due, "sentence": status.outlook.sentence},
        "history": [
            {"time": each.time, "event": each.event, "version": each.version, "by": each.by, "detail": each.detail}
            for each in status.history
        ],
    }
