"""`tunewright monitor`: the captures of served requests, and the drift, corrections and savings that they show."""

from __future__ import annotations

import typer

from tunewright.cli.monitor import collect, corrections, drift, export, prune, retrain, savings

app = typer.Typer(help="Watch a served model: captures, drift, corrections, savings, rollback.", no_args_is_help=True)
app.command("status")(retrain.status)
app.command("rollback")(retrain.rollback)
app.command("savings")(savings.savings)
app.command("collect")(collect.collect)
app.command("drift")(drift.drift)
app.command("export")(export.export)
app.command("prune")(prune.prune)
app.command("corrections")(corrections.corrections)
