"""`tunewright doctor`: check that everything is installed that a run needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, print_json
from tunewright.core.errors import EXIT_GATE, Check


def doctor(
    project: Annotated[Path | None, typer.Argument(help="A project whose spec and data to check, too.")] = None,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="Test this machine's GPU instead, in two minutes; paste the table into an issue."),
    ] = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Check the machine, the installed extras, the model cache and the spec. Each ✗ comes with a remedy."""
    if gpu:
        _test_gpu(json)
        return
    from tunewright.doctor.machine import examine

    checks = examine(project, allow_code=allow_code)
    print_checks(checks, json)


def _test_gpu(json: bool) -> None:
    from tunewright.doctor import run_selftest

    report = run_selftest()
    if json:
        print_json({**asdict(report), "passed": report.passed})
    else:
        typer.echo(report.markdown())
    if not report.passed:
        raise typer.Exit(EXIT_GATE)


def print_checks(checks: Sequence[Check], json: bool) -> None:
    """Print checks, each ✗ with its remedy.

    Raises:
        typer.Exit: a check did not pass.
    """
    if json:
        print_json([asdict(check) for check in checks])
    else:
        for number, check in enumerate(checks, 1):
            typer.echo(f"[{number}/{len(checks)}] {'✓' if check.passed else '✗'} {check.name}: {check.found}")
            if not check.passed:
                typer.echo(f"      {check.remedy}")
    if not all(check.passed for check in checks):
        raise typer.Exit(EXIT_GATE)
