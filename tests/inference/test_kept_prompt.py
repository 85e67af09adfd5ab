"""A prompt that is kept in a file: it is not run again, answers stay the same, and nobody else's is used."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.conftest import LABELS, make_spec
from tests.inference.kernels import adapter, assert_same, model
from tunewright.core.errors import UserError
from tunewright.exporters.bundle import write_bundle
from tunewright.exporters.kept_prompt import save_kept_prompt
from tunewright.inference.bundle import load_bundle
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import read_checksums, seal
from tunewright.inference.runtimes.openvino import passes
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.openvino.passes import SequencePart
from tunewright.inference.runtimes.openvino.shape import KEPT_PROMPT, WEIGHTS
from tunewright.inference.runtimes.vnni.kept_prompt import KeptPrompt
from tunewright.inference.runtimes.vnni.network import PackedWeights, VnniNetwork
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.models.tensor_files import TensorFile

pytestmark = [pytest.mark.model, pytest.mark.may_skip, pytest.mark.usefixtures("kernels_here")]

SYSTEM = list(range(2, 202))


def tokens_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the tokens of each pass that the kernels run from now on."""
    forward, counts = VnniNetwork.forward, list[int]()

    def counting(network: VnniNetwork, parts: Sequence[SequencePart]) -> Any:
        counts.append(sum(len(part.tokens) for part in parts))
        return forward(network, parts)

    monkeypatch.setattr(VnniNetwork, "forward", counting)
    return counts


@pytest.fixture
def prompted(weights: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """A family -> a folder of its weights with a prompt cache of SYSTEM, three blocks and eight tokens."""

    def write(family: str) -> Path:
        folder = shutil.copytree(weights(family) / "int8", tmp_path / "prompted")
        cache = model(folder).kept_prompt(SYSTEM)
        assert cache
        assert cache.tokens == SYSTEM[:192]
        cache.save(folder / KEPT_PROMPT)
        return folder

    return write


@pytest.mark.parametrize("family", ["llama", "biases", "norms of heads", "a window", "heads of 32 numbers"])
@pytest.mark.parametrize("streams", [1, 2])
def test_a_kept_prompt_is_not_run_again_and_answers_the_same(
    weights: Callable[..., Path],
    prompted: Callable[[str], Path],
    family: str,
    streams: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [*([*SYSTEM, *range(2 + n, 9 + n)] for n in range(4)), SYSTEM[:192], SYSTEM[:100], [*range(50, 90)]]
    plain = model(weights(family) / "int8")
    wanted = [plain(ids) for ids in asked]
    starting = model(prompted(family), streams=streams)
    counts = tokens_run(monkeypatch)
    for _ in range(streams):  # each thread has a stream of its own
        with ThreadPoolExecutor(1) as client:
            assert np.array_equal(client.submit(starting, asked[0]).result(), wanted[0])
    assert counts == [len(asked[0]) - 192] * streams
    assert_same(wanted, [starting(ids) for ids in asked])


def test_what_other_weights_kept_is_not_used(
    weights: Callable[..., Path], prompted: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after weights were copied into a bundle by hand."""
    folder = prompted("llama")
    tensors = {key: np.array(tensor.raw) for key, tensor in TensorFile(folder / WEIGHTS).items()}
    tensors["model.layers.1.self_attn.k_proj.scale"][3] *= 2
    save_file(tensors, folder / WEIGHTS)
    counts, other = tokens_run(monkeypatch), model(folder)
    found = other(SYSTEM)
    assert counts == [len(SYSTEM)]
    assert not np.array_equal(found, model(weights("llama") / "int8")(SYSTEM))


def test_a_kept_prompt_is_not_that_of_an_adapter(
    prompted: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prompted("llama")
    added = adapter(folder, 4, 0)
    always, beside = model(folder, adapter=added), model(folder, adapters=1)
    assert always.kept_prompt(SYSTEM) is None
    counts = tokens_run(monkeypatch)
    assert np.array_equal(always(SYSTEM), beside.with_adapter(added)(SYSTEM))
    assert counts == [len(SYSTEM)] * 2


@pytest.mark.parametrize("prompt", [[], SYSTEM[:63], [7] * 513])
def test_there_is_nothing_to_keep_of_a_prompt_that_is_too_short_or_long(
    weights: Callable[..., Path], prompt: list[int]
) -> None:
    assert model(weights("llama") / "int8").kept_prompt(prompt) is None


def test_there_is_nothing_to_keep_where_openvino_runs(
    weights: Callable[..., Path], prompted: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prompted("llama")
    monkeypatch.setattr(PackedWeights, "load", lambda _: None)
    theirs = model(folder, by_kernels=False)
    assert theirs.kept_prompt(SYSTEM) is None
    assert np.array_equal(theirs(SYSTEM), model(weights("llama") / "int8", by_kernels=False)(SYSTEM))


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: replace(cache, tokens=cache.tokens[:-1]),
        lambda cache: replace(cache, tokens=[], blocks=cache.blocks[:0]),
        lambda cache: replace(cache, blocks=np.ascontiguousarray(cache.blocks[:, :-64])),
        lambda cache: replace(cache, tokens=cache.tokens * 10**4, blocks=np.zeros((3 * 10**4, 1), np.uint8)),
        lambda cache: replace(cache, tokens=[-1, 10**18] * 96),
        lambda cache: replace(cache, made_by=""),
    ],
)
def test_a_kept_prompt_of_other_sizes_never_reaches_the_kernels(
    weights: Callable[..., Path], prompted: Callable[[str], Path], change: Callable[[KeptPrompt], KeptPrompt]
) -> None:
    file = prompted("llama") / KEPT_PROMPT
    cache = change(KeptPrompt.load(file))
    file.unlink()
    cache.save(file)
    assert np.array_equal(model(file.parent)(SYSTEM), model(weights("llama") / "int8")(SYSTEM))


def test_more_of_a_prompt_than_memory_holds_is_left_out(
    weights: Callable[..., Path], prompted: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prompted("llama")
    monkeypatch.setattr(passes, "_MEMORY", 0)
    small, counts = PagedNextToken(folder, context=64), tokens_run(monkeypatch)
    assert np.array_equal(small(SYSTEM[:60]), model(weights("llama") / "int8")(SYSTEM[:60]))
    assert sum(counts[:1]) == 60


@pytest.mark.parametrize(
    ("tensors", "said"),
    [(None, "cut"), ({}, "holds nothing"), ({"tokens": np.zeros(64, np.float32)}, "holds tokens")],
)
def test_what_is_no_kept_prompt_is_said(
    prompted: Callable[[str], Path], tensors: dict[str, np.ndarray] | None, said: str
) -> None:
    file = prompted("llama") / KEPT_PROMPT
    if tensors is None:
        file.write_bytes(file.read_bytes()[:-1])
    else:
        save_file(tensors, file)
    with pytest.raises(UserError, match=re.escape(file.name)) as refusal:
        model(file.parent)
    assert said in refusal.value.paragraph()


def test_a_bundle_keeps_the_prompt_that_its_requests_begin_with(
    weights: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, bundle = weights("llama"), tmp_path / "bundle"
    shutil.copytree(made / "int8", bundle / "openvino")
    task = {"kind": "classify", "labels": LABELS, "instruction": "Which team answers this? Read it first. " * 5}
    spec = make_spec(tmp_path, task=task)
    base = LocalModel("tiny", made / "hub", ChatTemplate.named("llama3"))
    write_bundle(spec, base, bundle, 5)
    save_calibration(UNCALIBRATED, bundle)
    without = load_bundle(bundle)
    asked = without.load()
    wanted = without.predictor(asked).answer("Where is it?")
    save_kept_prompt(without, asked)
    seal(bundle)
    assert f"openvino/{KEPT_PROMPT}" in read_checksums(bundle).files
    counts, within = tokens_run(monkeypatch), load_bundle(bundle)
    predictor = within.predictor(within.load())
    (prompt,) = predictor.prompts("Where is it?")
    assert predictor.answer("Where is it?") == wanted
    kept = KeptPrompt.load(bundle / "openvino" / KEPT_PROMPT).tokens
    assert kept == prompt[: len(kept)]
    assert counts[0] == len(prompt) - len(kept)
    assert len(kept) >= 192
