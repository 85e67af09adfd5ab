from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TOKENIZER, example, make_spec, unalike
from tunewright.config.sections import ClassifySpec
from tunewright.core.artifacts import Output, write_json
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.drift.reference import load_reference
from tunewright.evaluation.evidence import collect
from tunewright.exporters.bundle import context_of, write_bundle
from tunewright.exporters.steps import run_bundle
from tunewright.inference.bundle import BundleInfo, load_bundle, read_info
from tunewright.inference.calibration import Calibration, save_calibration
from tunewright.inference.checksums import CHECKSUMS, SECOND, read_checksums, seal
from tunewright.inference.predictors import Answer
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.serving.conversations import UnfitMessages, one_text
from tunewright.serving.requests import ChatMessage
from tunewright.tasks import Message, task_of

SECRET = "Where is the parcel of Ms Miller?"
TAUGHT = [example(f"{unalike(f'taught {n}')} please refund", "refund") for n in range(40)]
ASKED = [example(f"{unalike(f'asked {n}')} please refund", "refund") for n in range(11)] + [example(SECRET, "refund")]
CHOSEN = {"value": 0.8, "guaranteed": True, "examples": 100, "doubt": ""}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """The folders that the step reads; the weights are a few bytes."""
    folders = {name: tmp_path / name for name in ("split", "export", "parity", "verdict")}
    bundle = folders["export"] / "bundle"
    (bundle / "onnx").mkdir(parents=True)
    (bundle / "onnx" / "model.onnx").write_bytes(b"weights")
    write_bundle(make_spec(tmp_path), LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml")), bundle, 5)
    save_calibration(Calibration(temperature=2, in_scope=0.3), bundle)
    for name in ("parity", "verdict"):
        folders[name].mkdir()
    write_json(folders["parity"] / "parity.json", {"passed": True, "chain": [], "request": SECRET, "reply": "refund"})
    save_dataset(folders["split"], Dataset(TAUGHT, ASKED[:6], {"test": ASKED[6:]}))
    splits = {"validation": ASKED[:6], "test": ASKED[6:]}
    collect("served", Always("refund"), task_of(make_spec(tmp_path).task), splits, folders["parity"] / "answers")
    write_json(folders["verdict"] / "verdict.json", {"verdict": {"threshold": CHOSEN}})
    (folders["verdict"] / "model_card.md").write_text("---\ncard\n")
    return folders


def test_clients_may_send_the_jobs_system_prompts_only(inputs: dict[str, Path], tmp_path: Path) -> None:
    taught = [example(unalike(f"taught {n}"), "refund") for n in range(3)]
    for each in taught:
        each.messages.insert(0, Message(role="system", content="Route it,  and be brief."))
    save_dataset(inputs["split"], Dataset(taught, ASKED[:6], {"test": ASKED[6:]}))
    spec, target = make_spec(tmp_path, api={"prompt": "Choose one: {labels}"}), tmp_path / "made"
    target.mkdir()
    run_bundle(spec, inputs, Output(target))
    info = read_info(target)

    def takes(prompt: str) -> bool:
        try:
            return bool(
                one_text(
                    [ChatMessage(role=role, content=text) for role, text in (("system", prompt), ("user", "x"))], info
                )
            )
        except UnfitMessages:
            return False

    own = task_of(spec.task).prompt("")[0].content
    assert takes(own)
    assert takes("Route it, and be brief.")
    assert takes(own.replace("Route the ticket:", "Choose one:"))
    assert takes("  ")
    assert not takes("Translate it.")
    assert read_info(inputs["export"] / "bundle").system_prompts is None  # of a bundle without the step, any


@pytest.fixture
def made(inputs: dict[str, Path], tmp_path: Path) -> Path:
    target = tmp_path / "made"
    target.mkdir()
    run_bundle(make_spec(tmp_path), inputs, Output(target))
    return target


def _said_in(path: Path) -> str:
    if path.suffix != ".npz":
        return path.read_text("utf-8")
    with np.load(path, allow_pickle=False) as arrays:
        return "".join(arrays[name].tobytes().decode("latin-1") for name in arrays)


class Always:
    """Answers the same."""

    def __init__(self, text: str):
        self._text = text

    def answer(self, request: str) -> Answer:  # noqa: ARG002
        return Answer(self._text, 0.75)


def test_the_threshold_travels_in_the_bundle_and_the_export_stays_as_it_is(made: Path, inputs: dict[str, Path]) -> None:
    info = read_info(made)
    assert (info.threshold, info.guaranteed) == (0.8, True)
    assert read_info(inputs["export"] / "bundle").threshold is None
    assert load_bundle(made).calibration == Calibration(temperature=2, in_scope=0.3)
    assert (made / "README.md").read_text() == "---\ncard\n"
    assert (inputs["export"] / "bundle" / "README.md").read_text().startswith("# tickets")


def test_the_weights_take_no_room_again_and_nothing_else_is_shared(made: Path, inputs: dict[str, Path]) -> None:
    exported = inputs["export"] / "bundle"
    assert (made / "onnx" / "model.onnx").samefile(exported / "onnx" / "model.onnx")
    small = [path for path in made.iterdir() if path.is_file()]
    assert {path.name for path in small} >= {"tokenizer.json", "chat_template.jinja", "calibration.json"}
    for path in small:
        before = (exported / path.name).read_bytes() if (exported / path.name).exists() else b""
        path.write_text("changed")
        assert not before or (exported / path.name).read_bytes() == before


def test_the_checksums_of_the_weights_are_those_of_the_export(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What happens to the weights between the steps is found."""
    exported = inputs["export"] / "bundle"
    seal(exported)
    for name in ("whole", "hurt"):
        if name == "hurt":
            (exported / "onnx" / "model.onnx").write_bytes(b"w3ights")
        (tmp_path / name).mkdir()
        output = Output(tmp_path / name)
        run_bundle(make_spec(tmp_path), inputs, output)
        assert f"digest, for --pin: {output.result['digest']}" in capsys.readouterr().err
    sealed = read_checksums(tmp_path / "hurt")
    assert sealed
    assert sealed.digest == output.result["digest"]
    assert (tmp_path / "whole" / CHECKSUMS).read_bytes() == (tmp_path / "hurt" / CHECKSUMS).read_bytes()
    with pytest.raises(UserError, match=r"model\.onnx: .*not the one"):
        load_bundle(tmp_path / "hurt").verify()


def test_a_second_bundle_for_the_same_runtime_keeps_its_weights(inputs: dict[str, Path], tmp_path: Path) -> None:
    exported = inputs["export"] / "bundle"
    shutil.copytree(exported, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", exported / SECOND)
    (tmp_path / "made").mkdir()
    run_bundle(make_spec(tmp_path), inputs, Output(tmp_path / "made"))
    assert (tmp_path / "made" / SECOND / "onnx" / "model.onnx").read_bytes() == b"weights"


def test_nothing_of_the_data_or_the_machine_is_in_the_bundle(made: Path, tmp_path: Path) -> None:
    for path in made.rglob("*"):
        if path.is_file() and path.name != "tokenizer.json":
            text = _said_in(path)
            assert SECRET not in text
            assert "Miller" not in text
            assert str(tmp_path) not in text
            assert str(TOKENIZER.parent) not in text
    assert json.loads((made / "parity.json").read_text("utf-8")) == {"passed": True, "chain": []}


def test_the_answers_it_was_judged_by_are_the_reference_for_drift(made: Path) -> None:
    reference = load_reference(made)
    assert reference is not None
    assert reference.rows == 12
    assert reference.kinds["answer"] == {"refund": 12}
    assert np.allclose(reference.numbers["confidence"], 0.75)
    assert sorted(len(each.request) for each in ASKED) == reference.numbers["length"].tolist()
    alike, strange = reference.novelty([TAUGHT[0].request, "Wo bleibt mein Paket?"])
    assert alike < strange


def test_a_bundle_without_a_reference_has_none(inputs: dict[str, Path]) -> None:
    assert load_reference(inputs["export"] / "bundle") is None


def test_without_a_threshold_there_is_none(inputs: dict[str, Path], tmp_path: Path) -> None:
    write_json(inputs["verdict"] / "verdict.json", {"verdict": {"threshold": None}})
    target = tmp_path / "made"
    target.mkdir()
    run_bundle(make_spec(tmp_path), inputs, Output(target))
    assert load_bundle(target).flags(0.5)["escalate"] is None


@pytest.mark.parametrize(
    ("confidence", "escalate", "in_scope"),
    [(0.29, True, False), (0.3, True, True), (0.79, True, True), (0.8, False, True), (None, True, False)],
)
def test_the_server_says_what_the_thresholds_say(
    confidence: float | None, escalate: bool, in_scope: bool, made: Path
) -> None:
    flags = {"confidence": confidence, "escalate": escalate, "in_scope": in_scope}
    assert load_bundle(made).flags(confidence) == flags


def test_a_broken_calibration_is_reported(made: Path) -> None:
    (made / "calibration.json").write_text("{")
    with pytest.raises(UserError, match=r"can't be read as Calibration.*tunewright export"):
        load_bundle(made)


def test_a_prompt_that_was_learnt_can_be_served(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Its own answer may have been shorter than the longest, for which the server keeps room."""
    spec = make_spec(tmp_path)
    assert read_info(inputs["export"] / "bundle").context == spec.train.max_length + 5


def test_a_bundle_reads_no_more_than_its_model_has_positions(tmp_path: Path) -> None:
    """GenAI and vLLM would refuse to start; OpenVINO would go beyond what the model was trained with."""
    write_json(tmp_path / "config.json", {"model_type": "llama", "max_position_embeddings": 1025})
    base, spec = LocalModel("tiny", tmp_path, ChatTemplate.named("chatml")), make_spec(tmp_path)
    assert context_of(spec, base, task_of(spec.task), 1) == 1025
    assert context_of(spec, base, task_of(spec.task), 5) == 1025


def test_a_bundle_of_the_version_before_is_read() -> None:
    task = {"kind": "classify", "instruction": "Choose.", "labels": {"a": "", "b": ""}, "codes": True}
    written = {"name": "x", "base_model": "m", "runtime": "openvino", "precision": "int8", "task": task}
    written |= {"longest_answer": 1, "answer_lead": "", "answer_codes": {"a": "A", "b": "B"}, "version": "v"}
    info = BundleInfo.model_validate(written | {"context": 64, "template_sha256": None})
    assert info.label_tokens == {"a": "A", "b": "B"}
    assert isinstance(info.task, ClassifySpec) and info.task.single_token_labels
