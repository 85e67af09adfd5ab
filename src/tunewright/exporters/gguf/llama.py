"""llama.cpp, where it is installed: its quantizer, and its answers for the parity table.

It runs in its own process, because it ends the process on a file that it can't read, and because it may need its own
environment: llama-cpp-python is compiled when it is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from tunewright.core.errors import UserError
from tunewright.tasks import Message

PYTHON = "TUNEWRIGHT_LLAMA_CPP"
"""Environment variable with the Python of an environment that has llama-cpp-python, if this one has not."""
INSTALL = (
    f"Type: pip install 'tunewright[gguf]', which compiles it in some minutes, or set {PYTHON} to a Python that has it."
)
_APART = {"PYTHONSAFEPATH": "1"}
"""Keeps the folder of the child's file off its path, because it has modules with the names of other packages."""
_CHILD = Path(__file__).with_name("llama_child.py")


def require_llama() -> str:
    """The Python that has llama-cpp-python.

    Raises:
        UserError: no Python has it.
    """
    if named := os.environ.get(PYTHON):
        return named
    if find_spec("llama_cpp"):
        return sys.executable
    raise UserError("llama.cpp is not installed.", fix=INSTALL)


def quantise_q4_k_m(source: Path, target: Path) -> None:
    """Write a Q4_K_M file from an f16 file by llama.cpp's quantizer.

    Raises:
        UserError: llama.cpp is not installed, or refuses.
    """
    answer = subprocess.run(
        [require_llama(), str(_CHILD), "quantise", str(source), str(target)],
        env=os.environ | _APART,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode or not target.is_file():
        raise _failed("llama.cpp could not quantise the file.", source, answer.stderr)


class LlamaModel:
    """A GGUF file that answers chats; llama.cpp renders them by the template in the file."""

    def __init__(self, process: subprocess.Popen[str], file: Path, log: IO[str]):
        self._process, self._file, self._log = process, file, log

    def answer(self, messages: Sequence[Message], most: int, grammar: str = "") -> tuple[str, list[int]]:
        """(the greedy answer, the token ids of its prompt).

        Args:
            most: tokens that the answer may have.
            grammar: the grammar that confines the answer; empty: the answer is free.

        Raises:
            UserError: llama.cpp failed.
        """
        assert self._process.stdin and self._process.stdout
        request = {
            "messages": [{"role": each.role, "content": each.content} for each in messages],
            "most": most,
            "grammar": grammar,
        }
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            self._process.wait()
            self._log.seek(0)
            raise _failed("llama.cpp could not answer.", self._file, self._log.read())
        reply: dict[str, Any] = json.loads(line)
        return str(reply["text"]), list(reply["prompt"])


@contextmanager
def llama_model(file: Path, context: int, threads: int) -> Iterator[LlamaModel]:
    """A GGUF file loaded into llama.cpp.

    Args:
        context: tokens of a prompt and its answer.

    Raises:
        UserError: llama.cpp is not installed.
    """
    command = require_llama()
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [command, str(_CHILD), "answer", str(file), str(context), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env=os.environ | _APART,
        ) as process,
    ):
        try:
            yield LlamaModel(process, file, log)
        finally:
            process.kill()


def _failed(what: str, file: Path, log: str) -> UserError:
    lines = [line for line in log.splitlines() if line.strip()]
    # The first line about an error is the cause of the others.
    why = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else None)
    return UserError(what, where=file, why=why, fix=f"Is llama-cpp-python as new as the model? {INSTALL}")
