"""The steps `export` and `bundle`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import Output, link_file, write_json
from tunewright.core.progress import quiet_libraries, say
from tunewright.data import load_dataset
from tunewright.data.dataset import Dataset
from tunewright.drift.reference import Reference
from tunewright.evaluation.api.questions import asked_task
from tunewright.evaluation.evidence import VALIDATION, Record, groups_of, load_records
from tunewright.evaluation.steps import ANSWERS
from tunewright.evaluation.verdict.comparison import SERVED
from tunewright.exporters.bundle import write_bundle, write_encoder_bundle, write_linear_bundle
from tunewright.exporters.calibration import calibrate
from tunewright.exporters.encoders import build_encoder, token_outputs
from tunewright.exporters.kept_prompt import save_kept_prompt
from tunewright.exporters.merging import merge
from tunewright.exporters.onnx import build_onnx
from tunewright.exporters.openvino import build_openvino, export_adapter
from tunewright.exporters.other_engines import asking_of, complete
from tunewright.exporters.quantisation import Loss
from tunewright.inference.bundle import load_bundle, read_info, write_info
from tunewright.inference.calibration import save_calibration
from tunewright.inference.checksums import Verification, read_checksums, seal
from tunewright.inference.runtimes.base import ADAPTER_FOLDER, FOLDERS, best_runtime, encoder_runtime
from tunewright.inference.runtimes.beside import BESIDE
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import LocalModel, kind_of, resolve, resolve_encoder
from tunewright.tasks import Task, task_of
from tunewright.tasks.system_prompts import known_prompts
from tunewright.training.diagnosis.history import ENCODER, longest_answer


def run_export(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Adapter -> `merged/` (16-bit safetensors) and `bundle/` (weights for the runtime, and everything that serving
    needs). For an encoder or a linear model only the bundle: the training step has whole weights already."""
    kind = kind_of(spec.model, spec.folder)
    if kind == "linear":
        _export_linear(spec, inputs, output)
        return
    quiet_libraries()
    if kind == "encoder":
        _export_encoder(spec, inputs, output)
        return
    base = resolve(spec.model, spec.folder)
    say("  merging the adapter")
    merge(base.folder, inputs["train"] / "adapter", output.path / "merged")
    folder = output.path / "bundle"
    loss = build_weights(spec, base, inputs["train"] / "adapter", output.path / "merged", folder)
    longest = longest_answer(inputs["train"])
    info = write_bundle(spec, base, folder, longest)
    complete(output.path / "merged", spec, base, asking_of(spec, base, longest))
    output.result = _calibrated(folder, inputs["split"], loss) | {"template_sha256": info.template_sha256}


def _export_encoder(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    from tunewright.training.encoders.network import Network

    base, folder = resolve_encoder(spec.model, spec.folder), output.path / "bundle"
    runtime, tuned = encoder_runtime(spec.export.runtime), inputs["train"] / ENCODER
    say(f"  building {spec.export.weights} weights for {runtime}")
    loss = build_encoder(tuned, folder / FOLDERS[runtime], runtime, spec.export.precision)
    if (tuned / BESIDE).is_dir():
        link_weights(tuned / BESIDE, folder / FOLDERS[runtime] / BESIDE)
    write_encoder_bundle(spec, base, tuned, token_outputs(tuned), Network.habits_in(tuned), folder)
    output.result = _calibrated(folder, inputs["split"], loss)


def _export_linear(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    folder = output.path / "bundle"
    link_weights(inputs["train"] / LINEAR, folder / FOLDERS[LINEAR])
    write_linear_bundle(spec, folder)
    output.result = _calibrated(folder, inputs["split"], Loss())


def _calibrated(bundle: Path, split: Path, loss: Loss) -> dict[str, Any]:
    """Calibrate a bundle that is otherwise complete, and write its checksums.

    Returns: its figures for the manifest.
    """
    unsealed = load_bundle(bundle, verification=Verification(on=False))
    model = unsealed.load()
    calibration = calibrate(unsealed, model, load_dataset(split).validation)
    save_calibration(calibration, bundle)
    save_kept_prompt(unsealed, model)
    digest = seal(bundle)
    say(f"  the bundle's digest, for --pin: {digest}")
    return {
        "bundle_mb": round(sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file()) / 1e6, 1),
        "quantization_error": round(loss.relative, 5),
        "temperature": round(calibration.temperature, 3),
        "digest": digest,
    }


def build_weights(spec: Spec, base: LocalModel, adapter: Path, merged: Path, folder: Path) -> Loss:
    """Write the runtime's weights into a bundle's folder.

    Args:
        adapter: peft's folder.
        merged: the merged model in 16 bits.

    Returns: the quantization error of the runtime's weights against those in 16 bits.
    """
    runtime = best_runtime(base.folder) if spec.export.runtime == "auto" else spec.export.runtime
    say(f"  building {spec.export.weights} weights for {runtime}")
    weights, loss = folder / FOLDERS[runtime], Loss()
    match runtime:
        case "onnxruntime":
            loss = build_onnx(merged, weights, spec.export.precision)
        case "openvino":
            loss = build_openvino(merged, weights, spec.export.precision)
        case "openvino-lora":
            loss = build_openvino(base.folder, weights, spec.export.precision)
            export_adapter(adapter, base.folder, folder / ADAPTER_FOLDER, spec.export.precision)
        case "vllm":
            link_weights(merged, weights)
        case "vllm-lora":
            link_weights(base.folder, weights)
            shutil.copytree(adapter, folder / ADAPTER_FOLDER)
    if loss.whole:
        say(f"  the weights in {spec.export.weights} have a quantization error of {loss.relative:.1%}")
    return loss


def run_bundle(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Export, verdict and parity -> the bundle to deploy, with the threshold, the parity proof, the reference for drift
    and the model card.

    The weights are links to those of the export, so they take no space again. All small files are copied, so that a
    change here changes nothing there. The weights' checksums are those of the export.
    """
    exported = inputs["export"] / "bundle"
    info = read_info(exported)
    weights = FOLDERS[info.runtime]
    skipped = {str(exported): (weights, "README.md")}  # in this folder only: a cascade's second bundle has its own
    shutil.copytree(exported, output.path, ignore=lambda folder, _: skipped.get(str(folder), ()), dirs_exist_ok=True)
    link_weights(exported / weights, output.path / weights)
    chosen = json.loads((inputs["verdict"] / "verdict.json").read_text("utf-8"))["verdict"]["threshold"]
    if chosen:
        info = info.model_copy(update={"threshold": chosen["value"], "guaranteed": chosen["guaranteed"]})
    dataset = load_dataset(inputs["split"])
    write_info(output.path, info.model_copy(update={"system_prompts": _system_prompts(spec, dataset)}))
    parity = json.loads((inputs["parity"] / "parity.json").read_text("utf-8"))
    # The request that tried the server is a row of the data, which must not leave the project.
    write_json(output.path / "parity.json", {k: v for k, v in parity.items() if k not in ("request", "reply")})
    shutil.copy(inputs["verdict"] / "model_card.md", output.path / "README.md")
    reference = _reference(dataset, load_records(inputs["parity"] / ANSWERS / f"{SERVED}.jsonl"), task_of(info.task))
    reference.save(output.path)
    output.result = {"threshold": info.threshold, "guaranteed": info.guaranteed, "reference_rows": reference.rows}
    if checksums := read_checksums(output.path):
        output.result["digest"] = checksums.digest
        say(f"  the bundle's digest, for --pin: {checksums.digest}")


def _system_prompts(spec: Spec, dataset: Dataset) -> list[str] | None:
    """The system prompts that stand for the job: the task's own, those for its APIs, those of the training rows."""
    tasks = [
        task_of(spec.task),
        task_of(spec.task).untaught(),
        *(asked_task(spec, settings) for settings in spec.candidate_apis.values()),
    ]
    own = [message.content for task in tasks for message in task.prompt("") if message.role == "system"]
    rows = (message.content for each in dataset.train for message in each.messages if message.role == "system")
    return known_prompts(chain(own, rows))


def _reference(dataset: Dataset, served: Sequence[Record], task: Task) -> Reference:
    """The reference for drift: the training texts, and the served answers to the validation and test parts."""
    requests = {(VALIDATION, each.meta.id): each.request for each in dataset.validation}
    requests |= {(name, each.meta.id): each.request for name, examples in dataset.test.items() for each in examples}
    return Reference.of(
        [example.request for example in dataset.train],
        [requests[record.split, record.id] for record in served],
        [record.answer for record in served],
        [record.confidence for record in served],
        task,
        groups_of(served),
    )


def link_weights(source: Path, target: Path) -> None:
    """Copy a folder by links, which take no space again."""
    shutil.copytree(source, target, copy_function=link_file)
