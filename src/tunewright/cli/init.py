"""`tunewright init`: a commented spec from a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    data: Annotated[Path, typer.Argument(help="A data file: JSONL, CSV, TSV or Parquet.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write. (default: tunewright.yaml beside the data)")
    ] = None,
) -> None:
    """Write a commented tunewright.yaml from a data file it looks at."""
    from tunewright.data.guess import guess_spec
    from tunewright.errors import UserError
    from tunewright.spec import SPEC_FILE

    target = out if out is not None else data.parent / SPEC_FILE
    if target.exists():
        raise UserError("This file exists; it was left as it is.", where=target, fix="Name another with --out.")
    guess = guess_spec(data, target.resolve().parent)
    target.write_text(guess.text, "utf-8")
    columns = f", input in '{guess.text_column}', answers in '{guess.label_column}'" if guess.text_column else ""
    typer.echo(f"Wrote {target}: {guess.kind}, {guess.rows} rows, {guess.what}{columns}.")
    project = target.parent if target.name == SPEC_FILE else target
    typer.echo(f"Read it, mend the instruction, then type: tunewright run {project}")
