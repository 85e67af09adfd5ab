"""On a node of the cloud: lay out what a job was given, run the step's command line, hand over what it made.

    python -m tunewright.places.azure.node --given data.train=PATH --kept PATH --out PATH -- COMMAND

The step works on the node's own disk, because renaming folders on a mount is not safe, and its output is copied when it
is whole. What it may resume from is carried to `--kept`, a mount, while it runs: a low-priority node goes unasked.
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
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tunewright.artifacts import partial_of
from tunewright.errors import ERROR_FILE
from tunewright.places.azure.sources import LAID_OUT
from tunewright.processes import is_leader

MADE = Path("made")
"""Where the step writes on the node."""
ERROR = "error.txt"
"""In place of an output: what the step said as it ended."""
_CARRY_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """Returns the step's exit code."""
    options, command = _parsed(arguments)
    for pair in options.given:
        name, _, path = pair.partition("=")
        _show(Path(path), Path(LAID_OUT) / name)
    partial = partial_of(MADE)
    if options.kept and os.environ.get("LOCAL_RANK", "0") == "0":
        shutil.copytree(options.kept, partial, dirs_exist_ok=True)
    said = Path(ERROR).resolve()
    process = subprocess.Popen(command, env=os.environ | {ERROR_FILE: str(said), "PYTHONUNBUFFERED": "1"})
    signal.signal(signal.SIGTERM, lambda number, frame: _pass_on(process, number, frame))
    if options.kept and is_leader():
        ended = threading.Event()
        carrier = threading.Thread(target=_carry_on, args=(partial, options.kept, ended))
        carrier.start()
        code = process.wait()
        ended.set()
        carrier.join()
    else:
        code = process.wait()
    if is_leader():
        _hand_over(code, said, options.out)
        if code == 0 and options.kept:
            _empty(options.kept)
    return code


def _parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(the options, the step's command line)."""
    own, rest = list(arguments), []
    if "--" in own:
        rest = own[own.index("--") + 1 :]
        own = own[: own.index("--")]
    parser = argparse.ArgumentParser(prog="python -m tunewright.places.azure.node")
    parser.add_argument("--given", action="append", default=[], metavar="KEY=PATH", help="a folder of the user's")
    parser.add_argument("--kept", type=Path, help="a mount for what the step may resume from")
    parser.add_argument("--out", type=Path, required=True, help="the job's output")
    return parser.parse_args(own), rest


def _show(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another process of this node was first
        place.symlink_to(path.resolve(), target_is_directory=path.is_dir())


def _pass_on(process: subprocess.Popen[bytes], number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    process.send_signal(number)


def _hand_over(code: int, said: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if code == 0:
        shutil.copytree(MADE, out, dirs_exist_ok=True)
    elif said.is_file():
        print(said.read_text("utf-8"), file=sys.stderr, flush=True)
        shutil.copy(said, out / ERROR)


def _empty(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()


def _carry_on(partial: Path, kept: Path, ended: threading.Event) -> None:
    """Carry over what is new until the step has ended, and once more then."""
    while not ended.wait(_CARRY_SECONDS):
        carry(partial, kept)
    carry(partial, kept)


def carry(partial: Path, kept: Path) -> None:
    """Bring `kept` up to date with an unfinished output.

    Files go over in the order they were written: a checkpoint's last file, which tells that it is whole, comes last.
    What is gone here goes there too, but for the time when the output was just renamed and nothing is left.
    """
    if not partial.is_dir():
        return
    here = {
        path.relative_to(partial): path for path in partial.rglob("*") if path.is_file() and ".tmp" not in path.suffixes
    }
    for name, path in sorted(here.items(), key=lambda item: _written(item[1])):
        try:
            if not _is_same(path, kept / name):
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, kept / name)
        except FileNotFoundError:
            continue  # an old checkpoint was removed meanwhile
    for path in [path for path in kept.rglob("*") if path.is_file()]:
        if here and path.relative_to(kept) not in here:
            path.unlink(missing_ok=True)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_same(path: Path, other: Path) -> bool:
    try:
        theirs = other.stat()
    except FileNotFoundError:
        return False
    ours = path.stat()
    return ours.st_size == theirs.st_size and ours.st_mtime <= theirs.st_mtime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
