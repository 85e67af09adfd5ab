"""A process that has imported what steps need, of which each step of a test is a fork.

What a step imports takes eight seconds, more than most steps of a tiny model. Here it is imported once for all of a
session's steps. `parent.py` is that process. `sitecustomize.py` stands in the way of Python's start: it hands over what
would be `python -m tunewright.pipeline.step …`, or the ONNX builder, and waits for its end. What it can't hand over as
it is, it leaves alone: a step with other settings in its environment, or in a session of its own, because a test wants
to kill it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prepared.sitecustomize import ADDRESS, surroundings

HERE = Path(__file__).parent


@contextmanager
def prepared(folder: Path) -> Iterator[int]:
    """Inside, the steps that this process starts, and those that its children start, are forks. Yields whose.

    Args:
        folder: for the socket.
    """
    address = str(folder / "prepared")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        environment.setenv(ADDRESS, f"{address} {surroundings()}")
        parent = subprocess.Popen([sys.executable, str(HERE / "parent.py"), address], stdin=subprocess.PIPE)
        try:
            yield parent.pid
        finally:
            parent.communicate()  # it ends when nobody holds the other end
