"""OpenVINO's package would tell Google Analytics that it was imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_importing_openvino_tells_nobody(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import tunewright.models.paged_network\n"
        "import openvino\n"
        "print(sys.modules['openvino_telemetry'], 'openvino_telemetry.backend' in sys.modules)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"HOME": str(tmp_path), "CI": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["None", "False"]
    assert list(tmp_path.iterdir()) == []  # its first sending writes to ~/intel
