"""The root command and the table of its subcommands."""

from __future__ import annotations

import typer

from tunewright.cli import (
    adapters,
    assess,
    azure,
    baseline,
    batch,
    data,
    deploy,
    doctor,
    export,
    gate,
    gateway,
    init,
    keys,
    label,
    models,
    monitor,
    plan,
    prune,
    push,
    recipes,
    review,
    run,
    serve,
    spec,
    steps,
    traffic,
    train,
)
from tunewright.cli.monitor import retrain
from tunewright.core.version import __version__

app = typer.Typer(
    name="tunewright",
    help="Replace a paid language-model API on one narrow job by a small model that you own, or prove that you should "
    "not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tunewright {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("gate")(gate.gate)
app.add_typer(assess.app, name="assess")
app.add_typer(data.app, name="data")
app.command("label")(label.label)
app.command("baseline")(baseline.baseline)
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("prune")(prune.prune)
app.command("export")(export.export)
app.command("evaluate")(steps.evaluate)
app.command("push")(push.push)
app.command("serve")(serve.serve)
app.add_typer(gateway.app, name="gateway")
app.add_typer(traffic.app, name="traffic")
app.command("deploy")(deploy.deploy)
app.command("batch")(batch.batch)
app.command("review")(review.review)
app.command("retrain")(retrain.retrain)
app.add_typer(monitor.app, name="monitor")
app.add_typer(keys.app, name="keys")
app.add_typer(adapters.app, name="adapters")
app.add_typer(spec.app, name="spec")
app.add_typer(models.app, name="models")
app.add_typer(recipes.app, name="recipes")
app.add_typer(azure.app, name="azure")
