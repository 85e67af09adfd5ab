"""The command line: its commands by name, and the module of each."""

from __future__ import annotations

from importlib import import_module

import typer

from tunewright.core.version import __version__

_COMMANDS = {
    "init": "init.init",
    "doctor": "doctor.doctor",
    "run": "run.run",
    "gate": "gate.gate",
    "assess": "assess.app",
    "data": "data.app",
    "label": "label.label",
    "baseline": "baseline.baseline",
    "plan": "plan.plan",
    "train": "train.train",
    "prune": "prune.prune",
    "export": "export.export",
    "evaluate": "steps.evaluate",
    "push": "push.push",
    "serve": "serve.serve",
    "gateway": "gateway.app",
    "traffic": "traffic.app",
    "deploy": "deploy.deploy",
    "batch": "batch.batch",
    "review": "review.review",
    "retrain": "monitor.retrain.retrain",
    "monitor": "monitor.app",
    "keys": "keys.app",
    "adapters": "adapters.app",
    "spec": "spec.app",
    "models": "models.app",
    "recipes": "recipes.app",
    "azure": "azure.app",
}
"""The function of each command, or its group of commands, in this package. The order is that of `tunewright --help`."""


def command_line(name: str = "") -> typer.Typer:
    """The command line with one command, so that the modules of the others cost a start nothing.

    Args:
        name: of the command. If there is none of this name, all are in it: help, suggestions and completion name them.
    """
    app = typer.Typer(
        name="tunewright",
        help="Replace a paid language-model API on one narrow job by a small model that you own, or prove that you "
        "should not.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for each in (name,) if name in _COMMANDS else _COMMANDS:
        module, _, member = _COMMANDS[each].rpartition(".")
        command = getattr(import_module(f"{__package__}.{module}"), member)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=each)
        else:
            app.command(each)(command)
    return app


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tunewright {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass
