"""`tunewright export`: build a bundle or GGUF files from the trained model."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Literal

import typer

from tunewright.cli.backends import EmulateOption, OnOption, placed
from tunewright.cli.options import (
    AllowCodeOption,
    ForceOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    print_json,
)
from tunewright.cli.steps import print_result
from tunewright.core.errors import UserError


class Quantization(StrEnum):
    """Precisions of GGUF files; the values of `tunewright.exporters.gguf.export.Precision`."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_K_M = "q4_k_m"


ToOption = Annotated[
    Literal["bundle", "gguf"],
    typer.Option(
        "--to",
        help="bundle: for tunewright serve, with merged/ for vLLM and transformers; gguf: for llama.cpp and Ollama.",
    ),
]
QuantizationOption = Annotated[
    list[Quantization] | None,
    typer.Option(
        "--quantization", help="Precision of a GGUF file; repeatable. q4_k_m needs llama.cpp. (default: q8_0)"
    ),
]


def export(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    to: ToOption = "bundle",
    quantization: QuantizationOption = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    force: ForceOption = False,
    on: OnOption = "local",
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Merge the adapter and build the bundle for serving, or GGUF files for llama.cpp and Ollama."""
    from tunewright import api, load_spec
    from tunewright.exporters.gguf.ollama import CANNOT_CONFINE
    from tunewright.exporters.other_engines import confined_only

    if quantization and to != "gguf":
        raise UserError("--quantization is for GGUF.", fix="Add --to gguf; a bundle's precision is export.precision.")
    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, on, emulate) as (spec, backend):
        if to == "bundle":
            print_result(api.export(spec, runs=runs, force=force, on=backend), json)
            return
        files = api.export_gguf(
            spec, [each.value for each in quantization or [Quantization.Q8_0]], runs=runs, force=force, on=backend
        )
    folder = files[0].path.parent
    if json:
        print_json({"folder": folder, "files": [asdict(each) for each in files]})
        return
    for each in files:
        typer.echo(f"{each.path.name:<40} {each.path.stat().st_size / 1e6:8.1f} MB  SHA-256 {each.sha256[:16]}…")
    typer.echo(folder)
    if confined_only(spec):
        typer.echo(CANNOT_CONFINE)
    else:
        typer.echo(f"Ollama: cd {folder} && ollama create {spec.name} -f Modelfile")
