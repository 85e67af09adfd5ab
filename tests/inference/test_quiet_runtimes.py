"""What the runtimes would tell: OpenVINO's package tells Google Analytics that it was imported, ONNX Runtime tells
Microsoft how it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_importing_openvino_tells_nobody(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import tunewright.inference.runtimes.openvino.network\n"
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


def test_telemetry_is_off_before_onnx_runtime_is_loaded() -> None:
    """The emulated Azure refuses and tells every host that is not Azure's: so it came out that it was not."""
    program = (
        "import os, sys\n"
        "import tunewright.inference.runtimes.ort_model\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime_genai' in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "False"]
