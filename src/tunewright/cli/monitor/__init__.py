"""`tunewright monitor`: what was kept of what was served, and what follows from it."""

from __future__ import annotations

import typer

from tunewright.cli.monitor import collect, corrections, drift, export, prune, retrain, savings

app = typer.Typer(help="What was kept of what was served, and what follows from it.", no_args_is_help=True)
app.command("status")(retrain.status)
app.command("rollback")(retrain.rollback)
app.command("savings")(savings.savings)
app.command("collect")(collect.collect)
app.command("drift")(drift.drift)
app.command("export")(export.export)
app.command("prune")(prune.prune)
app.command("corrections")(corrections.corrections)
