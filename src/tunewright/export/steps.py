"""The steps `export` and `bundle`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tunewright.artifacts import Output
from tunewright.data import load_dataset
from tunewright.evaluate.calibration import save_calibration
from tunewright.export.bundle import load_bundle, write_bundle, write_info
from tunewright.export.calibrate import calibrate
from tunewright.export.merge import merge
from tunewright.export.onnx import build_onnx
from tunewright.models.resolve import resolve
from tunewright.models.torch_model import quiet_libraries
from tunewright.progress import say
from tunewright.spec import Spec
from tunewright.train.history import longest_answer


def run_export(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Adapter -> `merged/` (16-bit safetensors) and `bundle/` (ONNX with all that serving needs)."""
    quiet_libraries()
    base = resolve(spec.model, spec.folder)
    say("  merging the adapter")
    merge(base.folder, inputs["train"] / "adapter", output.path / "merged")
    say(f"  building ONNX {spec.export.precision}")
    build_onnx(output.path / "merged", output.path / "bundle" / "onnx", spec.export.precision)
    folder = output.path / "bundle"
    info = write_bundle(spec, base, folder, longest_answer(inputs["train"]))
    calibration = calibrate(load_bundle(folder), load_dataset(inputs["split"]).validation)
    save_calibration(calibration, folder)
    output.result = {
        "bundle_mb": round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, 1),
        "temperature": round(calibration.temperature, 3),
        "template_sha256": info.template_sha256,
    }


def run_bundle(_: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """What is deployed: the exported bundle with the threshold, the parity proof and the model card.

    The weights are links to those of the export, so that they take no room again.
    """
    shutil.copytree(inputs["export"] / "bundle", output.path, copy_function=_link, dirs_exist_ok=True)
    verdict = json.loads((inputs["verdict"] / "verdict.json").read_text("utf-8"))["verdict"]
    info, chosen = load_bundle(output.path).info, verdict["threshold"]
    if chosen:
        info = info.model_copy(update={"threshold": chosen["value"], "guaranteed": chosen["guaranteed"]})
    write_info(output.path, info)
    shutil.copy(inputs["parity"] / "parity.json", output.path / "parity.json")
    (output.path / "README.md").unlink()
    shutil.copy(inputs["verdict"] / "model_card.md", output.path / "README.md")
    output.result = {"threshold": info.threshold, "guaranteed": info.guaranteed}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
