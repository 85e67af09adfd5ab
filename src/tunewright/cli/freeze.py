"""`tunewright data freeze`: freeze the test, so that later data can only extend it."""

from __future__ import annotations

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    print_json,
)


def freeze(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Freeze the test split. Run again with new data, it adds a share of them and changes nothing else."""
    from tunewright import api, load_spec
    from tunewright.data.splits.freezing import before_freezing
    from tunewright.data.splits.freezing import freeze as freeze_test

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    frozen = freeze_test(spec, api.split(before_freezing(spec), runs=runs))
    if json:
        print_json(vars(frozen))
        return
    added = ", ".join(f"{count} to {name}" for name, count in frozen.added.items())
    typer.echo(f"version {frozen.version}: {f'added {added}' if added else 'nothing to add'}")
    if frozen.withheld:
        typer.echo(f"{frozen.withheld} training rows are related to the added rows and will be withheld")
    typer.echo(f"SHA-256 {frozen.sha256} pins this version and all before it")
    typer.echo(frozen.folder)
