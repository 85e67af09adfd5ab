"""`tunewright init`: write a commented spec for a data file, or copy an example project."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tunewright.data.guess.paid import PaidToday

_REWRITTEN = (".py", ".yaml")
"""Suffixes of example files that contain commands with the project's path."""


def examples_folder() -> Path:
    """The folder of the example projects: inside an installed package, or in the repository."""
    package = Path(__file__).parents[1]
    inside = package / "examples"
    return inside if inside.is_dir() else package.parents[1] / "examples"


def example_names() -> list[str]:
    from tunewright.config import SPEC_FILE

    return sorted(file.parent.name for file in examples_folder().glob(f"*/{SPEC_FILE}"))


def init(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="A data file: JSONL, CSV, TSV or Parquet; with --from-traffic the gateway's captures.",
            show_default=False,
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example",
            help="Copy this example project, data included, instead of reading a data file; for example tickets.",
            metavar="NAME",
            autocompletion=example_names,
        ),
    ] = None,
    from_traffic: Annotated[
        str | None,
        typer.Option(
            "--from-traffic",
            help="Make a project of this job in captured traffic (tunewright traffic ls).",
            metavar="JOB",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The output path: a .yaml file, or a folder. (default: tunewright.yaml beside the data; for an "
            "example or a job, a folder of its name)",
        ),
    ] = None,
) -> None:
    """Write a commented tunewright.yaml for a data file, or copy an example project."""
    from tunewright.core.errors import UserError

    if from_traffic is not None and data is not None and example is None:
        _write_project(data, from_traffic, out or Path(from_traffic))
    elif from_traffic is not None:
        raise UserError(
            "--from-traffic needs the captures.",
            fix=f"Type: {join(['tunewright', 'init', 'captures', '--from-traffic', from_traffic])}",
        )
    elif example is not None and data is None:
        _copy_example(example, out)
    elif data is not None and example is None:
        _write_spec(data, out)
    else:
        raise UserError(
            "tunewright init takes either a data file or --example." if data else "Name a data file or an example.",
            fix="Type: tunewright init YOUR_DATA.jsonl, or for a complete project: tunewright init --example tickets",
        )


def _write_spec(data: Path, out: Path | None) -> None:
    from tunewright.config import SPEC_FILE
    from tunewright.core.errors import UserError
    from tunewright.data.guess.spec import guess_spec
    from tunewright.economics import price_book
    from tunewright.economics.usage import name_in_book

    target = out or data.parent / SPEC_FILE
    if target.suffix.lower() not in (".yaml", ".yml"):
        target /= SPEC_FILE
    if target.exists():
        raise UserError("This file exists; it was left unchanged.", where=target, fix="Name another with --out.")
    book = partial(name_in_book, price_book())
    guess = guess_spec(data, target.resolve().parent, file=target.name, book=book)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(guess.text, "utf-8")
    columns = f", input in '{guess.text_column}', answers in '{guess.label_column}'" if guess.text_column else ""
    typer.echo(f"Wrote {target}: {guess.kind}, {guess.rows} rows, {guess.what}{columns}.")
    for line in _log_lines(guess.paid) if guess.paid else ():
        typer.echo(line)
    project = target.parent if target.name == SPEC_FILE else target
    if guess.alike:
        fix = join(["tunewright", "data", "fix", str(project), "--only", "D013"])
        spellings = ", ".join(map(repr, guess.alike[:3]))
        typer.echo(f"Some labels may be one in several spellings, such as {spellings}; the spec has one of each.")
        typer.echo(f"If they are one, correct the rows: {fix}")
    if guess.others:
        keys = "data.label" if guess.label_column else "data.text and data.label"
        typer.echo(f"Other columns repeat values, too: {', '.join(guess.others)}. If one is the answer, set {keys}.")
    typer.echo(f"Read it, improve the instruction, then type: {join(['tunewright', 'run', str(project)])}")


def _log_lines(paid: PaidToday) -> Iterator[str]:
    """What a log knows of the API and the traffic, in sentences."""
    if paid.model:
        yield f"Its answers are {paid.model}'s, which is the spec's api.model."
    else:
        yield (
            f"Its answers are those of {paid.deployment}, which is not in the price book: as api.model, name the model "
            "that it is, or one like it (tunewright models prices)."
        )
    if paid.requests_per_month:
        yield (
            f"{paid.counted} make {paid.requests_per_month:,} a month; if there are more than the log has, correct "
            "traffic.requests_per_month."
        )


def _write_project(captures: Path, job: str, out: Path) -> None:
    from tunewright.cli.traffic import traffic_source
    from tunewright.config import SPEC_FILE
    from tunewright.traffic.project import project_of

    made = project_of(traffic_source(captures), job, out)
    typer.echo(f"Wrote {out}: {made.guess.kind}, {made.rows:,} captured requests, {made.guess.what}.")
    for note in filter(None, (made.left_out, made.cached)):
        typer.echo(note)
    typer.echo("Their labels are the API's answers: right means what the API said, until people have corrected some.")
    typer.echo(f"Look at {out / SPEC_FILE}, then type: {join(['tunewright', 'run', str(out)])}")


def _copy_example(name: str, out: Path | None) -> None:
    from tunewright.config import SPEC_FILE
    from tunewright.core.artifacts import require_free
    from tunewright.core.errors import UserError, did_you_mean

    known = example_names()
    if name not in known:
        examples = f"The examples are: {', '.join(known)}."
        raise UserError(f"There is no example '{name}'.", why=examples, fix=did_you_mean(name, known, ""))
    target = out if out is not None else Path(name)
    require_free(target)
    source = examples_folder() / name
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        if file.is_dir() or {"runs", "__pycache__"} & set(inside.parts):
            continue
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes()
        if file.suffix in _REWRITTEN:
            # These files show commands for the repository's folder.
            content = content.replace(f"examples/{name}".encode(), target.as_posix().encode())
        (target / inside).write_bytes(content)
    command = "run" if (target / "data").is_dir() else "assess"
    typer.echo(f"Wrote the example project to {target}. Look at {target / SPEC_FILE}, then type:")
    typer.echo(join(["tunewright", command, str(target)]))
