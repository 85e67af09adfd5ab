"""`tunewright data`: check, fix, judge, split and freeze the data, and print documents as the model reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from itertools import chain, count
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.curve import curve
from tunewright.cli.freeze import freeze
from tunewright.cli.judge import judge
from tunewright.cli.options import (
    AllowCodeOption,
    ForceOption,
    JsonOption,
    OverridesArgument,
    RunsOption,
    arguments,
    print_json,
)
from tunewright.cli.steps import step_command
from tunewright.core.errors import GateFailed, UserError

if TYPE_CHECKING:
    from tunewright.data.job import Job
    from tunewright.pii import Pseudonymiser

app = typer.Typer(help="Check, fix, judge, split and freeze the data.", no_args_is_help=True)

TargetArgument = Annotated[
    Path,
    typer.Argument(
        help="A project (a folder with tunewright.yaml, or a spec file), or data: a file, a folder, a pattern.",
        metavar="project|data",
    ),
]
_FIXED = "fixed"
"""The folder of mended data, beside the spec."""
_FILE_OVERRIDES = "For data without a spec, name its columns: data.text=body data.label=queue model=phi-3.5-mini"


class FailOn(StrEnum):
    error = "error"
    warning = "warning"
    note = "note"
    never = "never"


@app.command(epilog=_FILE_OVERRIDES)
def check(
    target: TargetArgument,
    overrides: OverridesArgument = None,
    fail_on: Annotated[FailOn, typer.Option(help="The least severity that makes the exit code 1.")] = FailOn.error,
    out: Annotated[
        Path | None, typer.Option("--out", help="The output folder for data without a spec. (default: data-check/)")
    ] = None,
    runs: RunsOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Check the data for problems. Prints a table and writes report.html with examples."""
    from tunewright.data.checks import SEVERITIES
    from tunewright.data.examine import REPORT, load_examination

    if _is_project(target) and out:
        raise UserError("--out is for data without a spec.", fix="A project's output goes below --runs.")
    folder = (
        _checked_project(target, overrides, runs, force, allow_code)
        if _is_project(target)
        else _checked_data(target, overrides, out or Path("data-check"))
    )
    examination = load_examination(folder)
    if json:
        print_json({"folder": folder, "report": folder / REPORT, **asdict(examination)})
    else:
        from rich.console import Console

        from tunewright.config import load_spec
        from tunewright.data.printing import print_examination
        from tunewright.data.steps import typable

        words = arguments(target, overrides, allow_code=allow_code)
        if _is_project(target):
            spec = load_spec(target, overrides or (), allow_code=allow_code)
            findings = [typable(spec, finding) for finding in examination.findings]
            examination = replace(examination, findings=findings)
        print_examination(examination, words, _other_folder(_anchor(target) / _FIXED), Console())
        typer.echo(f"report: {folder / REPORT}")
    severe = SEVERITIES[: SEVERITIES.index(fail_on) + 1] if fail_on != FailOn.never else ()
    failing = [finding for finding in examination.findings if finding.severity in severe]
    if failing:
        raise GateFailed(f"{len(failing)} findings at or above --fail-on {fail_on}")


@app.command(epilog=_FILE_OVERRIDES)
def fix(
    target: TargetArgument,
    overrides: OverridesArgument = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Fix this finding only, by its code; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder for the fixed files. (default: fixed/ beside the spec)")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="For D015: your secret key, a file of at least 16 random bytes.")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="For D015: also write each pseudonym with its original, readable by you only. Keep it apart."
        ),
    ] = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Fix findings in new files, with a log of every changed row. The original files stay unchanged."""
    from tunewright.data.fix import LOG
    from tunewright.data.fix import fix as fix_data

    folder = out or _anchor(target) / _FIXED
    codes = [code for given in only or () for code in given.split(",")]
    pseudonymiser = _pseudonymiser(codes, key_file, mapping)
    job = _job(target, overrides, allow_code)
    fixed = fix_data(job, codes, folder, pseudonymiser)
    if mapping and pseudonymiser:
        pseudonymiser.save_mapping(mapping)
    if json:
        print_json({"files": fixed.files, "changes": fixed.changes, "log": folder / LOG})
        return
    for code, rows in sorted(fixed.changes.items()):
        typer.echo(f"{code}  {rows} rows")
    typer.echo(f"{'Log of every change: ' if fixed.changes else 'Nothing had to be changed: '}{folder / LOG}")
    others = [override for override in overrides or () if not _names_data(override)]
    form = ["data.form=chat"] if job.data.form not in (None, "chat") else []
    words = arguments(target, [*others, *form, *_as_data(fixed.files, _anchor(target))], allow_code=allow_code)
    typer.echo(f"Read the log, then check the new files: tunewright data check {join(words)}")


@app.command()
def text(
    files: Annotated[list[Path], typer.Argument(help="PDFs, e-mails, files of an OCR engine, HTML, plain text.")],
) -> None:
    """Print documents as the model reads them."""
    from tunewright.documents import read_document

    for file in files:
        if len(files) > 1:
            typer.echo(f"==> {file} <==")
        typer.echo(read_document(file))


app.command("curve")(curve)
app.command("freeze")(freeze)
app.command("judge")(judge)
app.command("split")(step_command("split", "Split the checked data into train, validation and test."))


def _is_project(target: Path) -> bool:
    from tunewright.project import Project

    return Project.is_one(target) or target.suffix.lower() in (".yaml", ".yml")


def _anchor(target: Path) -> Path:
    """The folder to which the data's paths are relative: the spec's, or the current one."""
    if not _is_project(target):
        return Path()
    return target if target.is_dir() else target.parent


def _other_folder(folder: Path) -> list[str]:
    """The option that names another folder for mended data; none where the usual one is absent or empty."""
    folders = chain([folder], (folder.with_name(f"{folder.name}-{number}") for number in count(2)))
    free = next(each for each in folders if not each.exists() or (each.is_dir() and not any(each.iterdir())))
    return [] if free == folder else ["--out", str(free)]


def _names_data(override: str) -> bool:
    """Whether an override names data files or their form."""
    key = override.partition("=")[0].strip()
    return key in ("data.train", "data.test", "data.form") or key.startswith("data.test.")


def _as_data(files: Mapping[str, Path], anchor: Path) -> list[str]:
    """The overrides that make these files the data, by split."""
    from tunewright.data.guess.yaml_text import yaml_scalar

    root = anchor.resolve()
    keys = {name: "data.train" if name == "train" else f"data.test.{name}" for name in files}
    paths = {name: file.resolve() for name, file in files.items()}
    named = {name: path.relative_to(root) if path.is_relative_to(root) else path for name, path in paths.items()}
    return [f"{keys[name]}={yaml_scalar(str(path))}" for name, path in named.items()]


def _job(target: Path, overrides: list[str] | None, allow_code: bool) -> Job:
    from tunewright.config import file_spec, load_spec
    from tunewright.data.job import job_of, job_of_files

    if _is_project(target):
        return job_of(load_spec(target, overrides or (), allow_code=allow_code))
    return job_of_files(file_spec(target, overrides or ()))


def _checked_project(
    target: Path, overrides: list[str] | None, runs: Path | None, force: bool, allow_code: bool
) -> Path:
    from tunewright import api, load_spec

    return api.check(load_spec(target, overrides or (), allow_code=allow_code), runs=runs, force=force)


def _checked_data(target: Path, overrides: list[str] | None, out: Path) -> Path:
    from tunewright.data.examine import FINDINGS, PARTS, examine

    foreign = [path for path in out.iterdir() if not path.name.startswith(PARTS)] if out.exists() else []
    if foreign and not (out / FINDINGS).is_file():
        raise UserError(
            "This folder holds other files; it was left unchanged.", where=out, fix="Name another with --out."
        )
    job = _job(target, overrides, allow_code=False)  # bare files name no code
    job.files()
    out.mkdir(parents=True, exist_ok=True)
    examine(job, out)
    return out


def _pseudonymiser(codes: Sequence[str], key_file: Path | None, mapping: Path | None) -> Pseudonymiser | None:
    """What makes the stand-ins; None: there is no key.

    Args:
        codes: the findings to fix.
    """
    from tunewright.pii import Pseudonymiser

    if key_file is None and mapping is None:
        return None
    if "D015" not in {code.strip().upper() for code in codes}:
        raise UserError(
            f"{'--mapping' if key_file is None else '--key-file'} is for stand-ins, and no stand-in would be made.",
            fix="Add --only D015, or leave the option out.",
        )
    if key_file is None:
        raise UserError("--mapping needs --key-file.", fix="Name the file of your secret key, such as pii.key.")
    if mapping and not os.access(mapping.parent, os.W_OK):
        raise UserError("The mapping can't be written to this folder.", where=mapping.parent, fix="Name another.")
    if mapping and mapping.exists():
        raise UserError("This file exists; it was left unchanged.", where=mapping, fix="Name another with --mapping.")
    try:
        return Pseudonymiser(key_file.read_bytes())
    except OSError as error:
        raise UserError(f"The key can't be read: {error.strerror}.", where=key_file) from None
