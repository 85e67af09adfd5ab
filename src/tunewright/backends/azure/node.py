"""The program of a node in the cloud: lay out the job's inputs, run the step's command line, hand over its output.

    python -m tunewright.backends.azure.node --given data.train=PATH --base smollm2-135m=PATH --kept PATH --resumes NAME
    \
        --out PATH -- COMMAND

The step works on the node's own disk, because renaming folders on a mount is not safe. Its output is copied when it is
whole. The files that it may resume from are copied to `--kept`, a mount, while it runs: Azure may take a low-priority
node away at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from tunewright.backends.azure.carrier import Carrier
from tunewright.backends.azure.sources import LAID_OUT
from tunewright.backends.ending import KILLED, killed
from tunewright.core.artifacts import MANIFEST, partial_of
from tunewright.core.errors import ERROR_FILE
from tunewright.core.processes import is_leader, oom_kills
from tunewright.models.resolve import adopt
from tunewright.pipeline.steps import STEPS, WATCHING_STEPS

MADE = Path("made")
"""The folder on the node in which the step writes."""
ERROR = "error.txt"
"""The file that replaces an output if the step fails: its error message."""
INPUT = "azureml://inputs/"
"""With an input's name after it, this replaces the input's path in an error message."""


def main(arguments: Sequence[str]) -> int:
    """Run a step as its arguments say. Returns the step's exit code."""
    options, command = _parsed(arguments)
    for pair in options.given:
        name, _, path = pair.partition("=")
        _link(Path(path), Path(LAID_OUT) / name)
    for pair in options.base:
        name, _, path = pair.partition("=")
        adopt(name, Path(path))
    # One process of each node carries: each node has files of its own, such as its random numbers.
    carries = options.kept and os.environ.get("LOCAL_RANK", "0") == "0"
    carrier = Carrier(partial_of(MADE), options.kept, options.resumes) if carries else None
    if carrier:
        carrier.fetch()
    error_file = Path(ERROR).resolve()
    kills = oom_kills()
    process = subprocess.Popen(command, env=os.environ | {ERROR_FILE: str(error_file), "PYTHONUNBUFFERED": "1"})
    signal.signal(signal.SIGTERM, lambda number, frame: _pass_on(process, number, frame))
    code = _wait_carrying(process, carrier) if carrier else process.wait()
    if code in KILLED and not error_file.is_file():
        step = next(each for each in (STEPS | WATCHING_STEPS).values() if each.name in command)
        error_file.write_text(killed(step, kills).paragraph(), "utf-8")
    if is_leader():
        _hand_over(code, error_file, options.out, _inputs(options.given, command))
        if code == 0 and carrier:
            carrier.clear()
    return code if code >= 0 else 128 - code


def _wait_carrying(process: subprocess.Popen[bytes], carrier: Carrier) -> int:
    """Wait for the step while a thread copies the files that it may resume from. Returns the step's exit code."""
    ended = threading.Event()
    thread = threading.Thread(target=carrier.until, args=(ended,))
    thread.start()
    code = process.wait()
    ended.set()
    thread.join()
    return code


def _parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(the options, the step's command line)."""
    own, rest = list(arguments), []
    if "--" in own:
        rest = own[own.index("--") + 1 :]
        own = own[: own.index("--")]
    parser = argparse.ArgumentParser(prog="python -m tunewright.backends.azure.node")
    parser.add_argument("--given", action="append", default=[], metavar="KEY=PATH", help="a folder of the user's files")
    parser.add_argument("--base", action="append", default=[], metavar="NAME=PATH", help="the base model, by its name")
    parser.add_argument("--kept", type=Path, help="a mount for the files to resume from")
    parser.add_argument("--resumes", action="append", default=[], metavar="NAME", help="a part of the output to keep")
    parser.add_argument("--out", type=Path, required=True, help="the job's output")
    return parser.parse_args(own), rest


def _link(path: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another process of this node was first
        link.symlink_to(path.resolve(), target_is_directory=path.is_dir())


def _pass_on(process: subprocess.Popen[bytes], number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    process.send_signal(number)


def _inputs(given: Sequence[str], command: Sequence[str]) -> dict[str, Path]:
    """The path of each input on this node: the user's files by their key, earlier steps' outputs by the step."""
    read = [command[place + 1] for place, part in enumerate(command) if part == "--in"]
    return {name: Path(path) for name, _, path in (pair.partition("=") for pair in (*given, *read))}


def _hand_over(code: int, error_file: Path, out: Path, inputs: Mapping[str, Path]) -> None:
    """Copy the output, its manifest last; if the step failed, copy its error message instead."""
    out.mkdir(parents=True, exist_ok=True)
    (out / ERROR).unlink(missing_ok=True)
    if code == 0:
        for path in sorted((p for p in MADE.rglob("*") if p.is_file()), key=lambda p: p == MADE / MANIFEST):
            _copy(path, out / path.relative_to(MADE))
    elif error_file.is_file():
        # This node's paths mean nothing to the user: the machine that reads the message puts its own paths in.
        text = error_file.read_text("utf-8")
        for name, path in inputs.items():
            text = text.replace(str(path.resolve()), INPUT + name).replace(str(path), INPUT + name)
        print(text, file=sys.stderr, flush=True)
        (out / ERROR).write_text(text, "utf-8")


def _copy(source: Path, target: Path) -> None:
    """Copy only the bytes: a mount may not allow setting times and permissions."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
