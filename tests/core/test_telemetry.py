"""What libraries would tell: ONNX Runtime tells Microsoft how it is used, OpenVINO's package tells Google Analytics
that it was imported. The emulated Azure refuses and names every host that is not Azure's: so it came out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunewright.core.telemetry import VARIABLES


def told(program: str, home: Path, **environment: str) -> list[str]:
    """What a program prints that sees none of our variables at first, and no sign that it is a test's or a CI's."""
    hidden = {*VARIABLES, "CI", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_importing_openvino_tells_nobody(tmp_path: Path) -> None:
    program = (
        "import sys, tunewright, openvino\n"
        "print(sys.modules['openvino_telemetry'], 'openvino_telemetry.backend' in sys.modules)\n"
    )
    assert told(program, tmp_path) == ["None", "False"]
    assert list(tmp_path.iterdir()) == []  # its first sending writes to ~/intel


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux lists them")
def test_onnx_runtime_starts_no_threads_that_send(tmp_path: Path) -> None:
    """It starts two as it is imported (1.32). They also keep a fork of the process from ending."""
    program = (
        "import os, tunewright, numpy\n"
        "def threads(): return len(os.listdir('/proc/self/task'))\n"
        "before = threads()\n"
        "import onnxruntime\n"
        "print(threads() - before)\n"
    )
    assert told(program, tmp_path) == ["0"]


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_the_user_has_set_stays(name: str, tmp_path: Path) -> None:
    program = f"import os, tunewright; print(os.environ['{name}'])"
    assert told(program, tmp_path) == [VARIABLES[name]]
    assert told(program, tmp_path, **{name: "0"}) == ["0"]
