"""The command line of one step, the same on this machine and in a cloud job.

python -m tunewright.pipeline.step NAME --spec tunewright.yaml --in split=runs/split-… --out runs/train-…
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from tunewright.config import load_spec
from tunewright.core.errors import EXIT_INTERRUPTED, EXIT_USER, UserError, as_user_error
from tunewright.core.launch import end, launch, report_error
from tunewright.core.processes import end_with_parent
from tunewright.core.progress import quiet_loggers, say
from tunewright.core.threads import confine
from tunewright.pipeline.runner import execute_step, processes_of
from tunewright.pipeline.steps import STEPS, WATCHING_STEPS


def main(arguments: list[str] | None = None) -> int:
    """Run one step and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tunewright.pipeline.step", description="Run one step of the pipeline."
    )
    parser.add_argument("name", choices=[*STEPS, *WATCHING_STEPS])
    parser.add_argument("--spec", required=True, type=Path, help="the spec file, or its folder")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the spec")
    parser.add_argument("--recipe", help="a recipe that overrides the spec")
    parser.add_argument("--allow-code", action="store_true", help="import the module that the spec's task.schema names")
    parser.add_argument("--in", dest="inputs", action="append", default=[], metavar="NAME=PATH", help="an input folder")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="an input that this run does without"
    )
    parser.add_argument("--out", required=True, type=Path, help="the output folder; whole or absent at the end")
    options = parser.parse_intermixed_args(arguments)
    end_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    confine()
    quiet_loggers()  # before a step imports the libraries, because some log at import
    try:
        spec = load_spec(options.spec, options.overrides, recipe=options.recipe, allow_code=options.allow_code)
        step, inputs = (STEPS | WATCHING_STEPS)[options.name], dict(_pair(text) for text in options.inputs)
        if (count := processes_of(step, spec, inputs)) > 1:
            return launch(sys.argv[1:] if arguments is None else arguments, count)
        execute_step(step, spec, inputs, options.out, without=options.without)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 (here errors become messages)
        return _report(error, options.out, (STEPS | WATCHING_STEPS)[options.name].less_memory)
    return 0


def _pair(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not sign:
        raise UserError(f"'--in {text}' is not of the form NAME=PATH.")
    return name, Path(path)


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal's contract)
    raise KeyboardInterrupt


def _report(error: Exception, out: Path, less_memory: str) -> int:
    known = as_user_error(error, out, less_memory)
    if known is None or os.environ.get("TUNEWRIGHT_TRACE"):
        say("".join(traceback.format_exception(error)))
    if known is None:
        known = UserError(f"Unexpected {type(error).__name__}: {error}.", fix="Please report it with the lines above.")
    report_error(known.paragraph())
    return EXIT_USER


if __name__ == "__main__":
    end(main())
