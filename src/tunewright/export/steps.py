"""The step `export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunewright.artifacts import Output
from tunewright.export.bundle import write_bundle
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
    bundle = write_bundle(spec, base, output.path / "bundle", longest_answer(inputs["train"]))
    output.result = {
        "bundle_mb": round(sum(f.stat().st_size for f in (output.path / "bundle").rglob("*") if f.is_file()) / 1e6, 1),
        "template_sha256": bundle.template_sha256,
    }
