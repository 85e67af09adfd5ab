"""What tests of exported models share: a project whose outputs are there."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.conftest import TOKENIZER
from tunewright.config import Spec
from tunewright.core.artifacts import Output, atomic_folder, read_manifest
from tunewright.exporters.bundle import write_bundle
from tunewright.exporters.other_engines import asking_of, complete
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel

SECRET = "Where is the parcel of Ms Miller?"
WEIGHTS = b"weights" * 1000


def with_outputs(spec: Spec) -> Spec:
    """A project with whole outputs; the weights are a few bytes, and rows of the data lie where they might be taken."""
    base = LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml"))
    latest = spec.folder / "runs" / "latest"
    latest.mkdir(parents=True)

    def whole(step: str, **inputs: str) -> AbstractContextManager[Output]:
        folder = spec.folder / "runs" / f"{step}-1"
        (latest / step).symlink_to(folder)
        return atomic_folder(
            folder, kind=step, fingerprint="f", spec_sha256="s", inputs=inputs, seed=0, code_version="c"
        )

    with whole("train") as output:
        (output.path / "adapter").mkdir()
        (output.path / "adapter" / "adapter_model.safetensors").write_bytes(WEIGHTS[:100])
        (output.path / "adapter" / "adapter_config.json").write_text("{}", "utf-8")
        (output.path / "audit.txt").write_text(SECRET, "utf-8")
    trained = read_manifest(spec.folder / "runs" / "train-1")
    assert trained
    with whole("export", train=trained.content) as output:
        merged, bundle = output.path / "merged", output.path / "bundle"
        (bundle / "onnx").mkdir(parents=True)
        merged.mkdir()
        (merged / "model.safetensors").write_bytes(WEIGHTS)
        (merged / "config.json").write_text("{}", "utf-8")
        (merged / "notes.txt").write_text(SECRET, "utf-8")
        write_bundle(spec, base, bundle, 5)
        save_calibration(UNCALIBRATED, bundle)
        complete(merged, spec, base, asking_of(spec, base, 5))
    return spec
