"""Our own kernels for decoders: they answer like torch, and the same whoever else asks, however many threads there
are."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.fixtures.tiny import write_tiny_model
from tests.inference.kernels import FAMILIES, OTHERS, WIDE, adapter, assert_same, model
from tunewright.exporters.openvino import build_openvino
from tunewright.inference.runtimes.openvino import passes
from tunewright.inference.runtimes.openvino.passes import SequencePart
from tunewright.inference.runtimes.openvino.shape import CONFIG, WEIGHTS
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.inference.runtimes.vnni import compile as compiling
from tunewright.inference.runtimes.vnni import library
from tunewright.inference.runtimes.vnni.network import PackedWeights, VnniNetwork
from tunewright.models.tensor_files import TensorFile
from tunewright.pipeline import fingerprint

pytestmark = [pytest.mark.model, pytest.mark.may_skip, pytest.mark.usefixtures("kernels_here")]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernels_answer_like_torch(
    weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    folder = weights(family)
    exact, ours = TorchNextToken(load_torch_model(folder / "hub")), model(folder / "int8")
    with monkeypatch.context() as patch:
        patch.setattr(PackedWeights, "load", lambda _: None)
        theirs = model(folder / "int8", by_kernels=False)
    ids = [*range(2, 200), *range(2, 200)]
    errors = []
    for sequence in (ids[:80], ids, [*ids[:70], 9, 8], [*ids[:70], 9, 8], [*ids, 4], [7, 7, 7], [5]):
        wanted = exact(sequence)
        errors.append([np.sqrt(np.mean((each(sequence) - wanted) ** 2)) / wanted.std() for each in (ours, theirs)])
    own, other = np.mean(errors, 0)
    assert own < 0.03
    assert own < 1.2 * other, f"{own:.1e} from torch, OpenVINO {other:.1e}"


@pytest.mark.parametrize("family", ["llama", "biases", "a window, heads of 96 numbers"])
def test_the_kernels_say_the_same_whoever_else_asks(
    weights: Callable[..., Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: in any company, in a memory that others have used, with one thread, two, three or two streams,
    and whether an answer comes as a whole or grows token by token."""
    monkeypatch.setattr(passes, "_MEMORY", 0)
    folder = weights(family) / "int8"
    ours = model(folder, threads=2)
    system = list(range(2, 102))
    asked = [[*system, *range(2 + n, 5 + 3 * n), *range(20, 20 + n % 3)] for n in range(40)]
    alone = [ours(ids) for ids in asked]
    with ThreadPoolExecutor(16) as clients:
        assert_same(alone, list(clients.map(ours, asked)))
    for options in ({"threads": 1}, {"threads": 3}, {"threads": 1, "streams": 2}):
        another = model(folder, **options)
        another([250 - n % 200 for n in range(512)])
        assert_same(alone, [another(ids) for ids in asked])
        another.close()
    growing, prompt = ours.begin(system), list(range(2, 40))
    assert_same([growing(prompt[:n]) for n in range(1, 38)], [ours([*system, *prompt[:n]]) for n in range(1, 38)])


@pytest.mark.parametrize("family", FAMILIES)
def test_amx_changes_no_bit(
    weights: Callable[..., Path], other_kernels: Callable[[], AbstractContextManager[None]], family: str
) -> None:
    """In passes of one row, of some, of a register's, of one more, and of many."""
    folder, asked = weights(family) / "int8", [list(range(2, 2 + count)) for count in (1, 4, 5, 16, 17, 40, 100, 199)]

    def answers() -> list[np.ndarray]:
        asking = model(folder, threads=2)
        found = [asking(ids) for ids in asked]
        asking.close()
        return found

    here = answers()
    with other_kernels():
        assert_same(here, answers())


def test_people_are_told_of_amx_which_is_not_used_where_it_multiplies_wrongly(
    other_kernels: Callable[..., AbstractContextManager[None]],
) -> None:
    here = library.kernels_say()
    with other_kernels():
        assert {here, library.kernels_say()} == {
            "our own, for decoders and BERT's kind in int8",
            "our own, with AMX, for decoders and BERT's kind in int8",
        }
    with other_kernels(wrong=True):
        assert library.kernels_say() == "our own, for decoders and BERT's kind in int8"


@pytest.mark.parametrize(
    ("family", "precision"), [*((name, "int8") for name in OTHERS), ("llama", "int4"), ("llama", "fp32")]
)
def test_openvino_runs_what_the_kernels_do_not_know(weights: Callable[..., Path], family: str, precision: str) -> None:
    folder = weights(family, precision) / precision
    assert PackedWeights.load(folder) is None
    assert np.isfinite(model(folder, by_kernels=False)([1, 2, 3])).all()


@pytest.mark.parametrize("family", ["llama", "biases", "a window, heads of 96 numbers"])
@pytest.mark.parametrize(("rank", "only"), [(4, ""), (16, "mlp.down_proj"), (33, "self_attn")])
def test_adapters_answer_as_in_openvino(
    weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, family: str, rank: int, only: str
) -> None:
    folder = weights(family) / "int8"
    added, ids = adapter(folder, rank, 0, only), [*range(2, 90)]
    ours, always = model(folder, adapters=1), model(folder, adapter=added)
    with monkeypatch.context() as patch:
        patch.setattr(PackedWeights, "load", lambda _: None)
        theirs = model(folder, by_kernels=False, adapters=1)
    plain, found, wanted = ours(ids), ours.with_adapter(added)(ids), theirs.with_adapter(added)(ids)
    spread = wanted.std()
    assert np.abs(found - plain).mean() > 0.05 * spread, "the adapter changes something"
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.03 * spread
    assert np.array_equal(always(ids), found)


def test_adapters_say_the_same_whoever_else_asks(weights: Callable[..., Path]) -> None:
    folder = weights("llama") / "int8"
    adapters = [None, *(adapter(folder, rank, rank) for rank in (3, 8, 17))]
    asked = [([*range(2, 30), *range(40 + n, 45 + 3 * n)], adapters[n % 4]) for n in range(40)]
    ours = model(folder, threads=2, adapters=4)
    alone = [ours(*each) for each in asked]
    with ThreadPoolExecutor(16) as clients:
        assert_same(alone, list(clients.map(lambda each: ours(*each), asked)))
    single = model(folder, threads=1)
    assert_same(alone, [single(*each) for each in asked])
    assert not np.array_equal(ours(asked[0][0], adapters[1]), ours(asked[0][0], adapters[2]))


@pytest.mark.parametrize("by_kernels", [True, False])
def test_some_logits_are_those_among_all(
    weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, by_kernels: bool
) -> None:
    """Alone and beside requests that need others, or all."""
    if not by_kernels:
        monkeypatch.setattr(PackedWeights, "load", lambda _: None)
    ours = model(weights("llama") / "int8", by_kernels=by_kernels, threads=2)
    rng = np.random.default_rng(0)
    last = len(ours([1, 2])) - 1
    queries = [([1, 2, *range(n)], [last, *rng.integers(0, last, 1 + n % 5).tolist(), 0]) for n in range(20)]
    wanted = [ours(ids)[tokens] for ids, tokens in queries]
    assert_same(wanted, [ours.of_tokens([query])[0] for query in queries])
    assert_same(wanted, ours.of_tokens(queries))
    with ThreadPoolExecutor(16) as clients:
        every = clients.map(ours, [ids for ids, _ in queries])
        assert_same(wanted, list(clients.map(lambda query: ours.of_tokens([query])[0], queries)))
        assert_same(wanted, [row[tokens] for row, (_, tokens) in zip(every, queries, strict=True)])


@pytest.mark.parametrize("family", ["biases", "heads of 128 numbers, three layers"])
def test_an_adapter_of_another_model_is_refused(weights: Callable[..., Path], family: str) -> None:
    """The kernels would read and write memory that is not theirs."""
    ours = model(weights("llama") / "int8", adapters=1)
    with pytest.raises(RuntimeError, match="an adapter of another model"):
        ours([1, 2, 3], adapter(weights(family) / "int8", 4, 0))
    assert np.isfinite(ours([1, 2, 3])).all()


def test_a_pass_outside_of_the_vocabulary_is_refused(weights: Callable[..., Path]) -> None:
    """The kernels would read memory that is not theirs."""
    packed = PackedWeights.load(weights("llama") / "int8")
    assert packed
    ours = VnniNetwork(packed, 512, 1)
    for tokens in ([packed.vocabulary], [-1], [1] * 300):
        with pytest.raises(ValueError, match="a pass of"):
            ours.forward([SequencePart(tokens, 0, [0, 1, 2, 3, 4], None, needs_logits=True)])
    assert ours.forward([SequencePart([1, 2], 0, [0], None, needs_logits=False)]).shape == (0, packed.vocabulary)
    for choices in ([5, packed.vocabulary], [-1, 5]):
        with pytest.raises(ValueError, match="logits of the tokens"):
            ours.forward([SequencePart([1, 2], 0, [0], None, needs_logits=True, choices=choices)])
    spent = ours.spent()
    assert min(spent["matrices"], spent["attention"], spent["between"]) > 0


def test_what_nobody_holds_gives_its_memory_and_threads_back(weights: Callable[..., Path]) -> None:
    def held() -> tuple[int, int]:
        """(threads, bytes of address space)"""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return len(list(Path("/proc/self/task").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")

    gc.collect()  # what earlier tests left
    ours = model(weights("llama") / "int8", threads=2, streams=2)
    ours([1, 2, 3])
    threads, space = held()
    ours.close()
    del ours
    gc.collect()
    # A scheduler and a worker for each stream, and 256 MiB of keys and values.
    assert held()[0] <= threads - 4
    assert held()[1] < space - 2 * 200 * 2**20


def _longer(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, array])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.layers.0.self_attn.q_proj.weight", _longer),
        ("model.layers.1.mlp.up_proj.weight", _longer),
        ("model.layers.1.mlp.down_proj.weight", lambda array: np.ascontiguousarray(array[:, :-32])),
        ("model.layers.1.mlp.down_proj.scale", lambda array: array[:-1]),
        ("model.layers.0.self_attn.k_proj.zero", lambda array: array.astype(np.float32)),
        ("model.layers.0.self_attn.v_proj.scale", lambda array: array.astype(np.float64)),
        ("model.layers.0.input_layernorm.weight", lambda array: array[:16]),
        ("model.layers.0.input_layernorm.weight", None),
        ("model.norm.weight", lambda array: array.astype(np.float16)),
        ("model.embed_tokens.scale", lambda array: array[:5]),
        ("lm_head.weight", lambda array: array[:100]),
        ("rotary.inv_freq", lambda array: array[:16]),
        ("turn.signs", lambda _: np.ones(128, np.float32)),
        ("model.layers.0.self_attn.q_norm.weight", lambda _: np.ones(64, np.float32)),
        ("num_key_value_heads", 3),
        ("num_hidden_layers", 1_000_000),
    ],
)
def test_a_file_of_other_sizes_never_reaches_the_kernels(
    weights: Callable[..., Path], tmp_path: Path, name: str, change: Any
) -> None:
    """They would read and write memory that is not theirs."""
    source = weights("llama") / "int8"
    config = json.loads((source / CONFIG).read_text())
    tensors = {key: np.array(tensor.raw) for key, tensor in TensorFile(source / WEIGHTS).items()}
    if name in config:
        config[name] = change
    elif change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors.get(name))
    (tmp_path / CONFIG).write_text(json.dumps(config))
    save_file(tensors, tmp_path / WEIGHTS)
    assert PackedWeights.load(tmp_path) is None


@pytest.mark.parametrize("inner", [4916 // 4, 205])
def test_openvino_runs_sizes_that_no_group_divides(tmp_path: Path, inner: int) -> None:
    """Such as pruned models have."""
    write_tiny_model(("llama3", "LlamaConfig", WIDE | {"intermediate_size": inner}), tmp_path / "hub")
    build_openvino(tmp_path / "hub", tmp_path / "int8", "int8")
    assert PackedWeights.load(tmp_path / "int8") is None


@pytest.mark.parametrize("broken", ["gone", "older", "not a library"])
def test_without_a_library_that_fits_openvino_runs_the_same_weights(
    weights: Callable[..., Path], broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / compiling.LIBRARY.name
    if broken == "older":
        monkeypatch.setattr(library, "source_hash", lambda: "another")
    else:
        monkeypatch.setattr(library, "LIBRARY", file)
    if broken == "not a library":
        file.write_bytes(b"no")
    library.library.cache_clear()
    library.reason_against.cache_clear()
    reason = library.reason_against()
    assert (
        reason and {"gone": "compile.py", "older": "compile.py", "not a library": "can't be loaded"}[broken] in reason
    )
    assert np.isfinite(model(weights("llama") / "int8", by_kernels=False)([1, 2, 3])).all()


def test_another_processor_has_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "cpu_flags", lambda: frozenset({"avx2"}))
    library.reason_against.cache_clear()
    assert "no avx512" in str(library.reason_against())


def test_the_kernels_compile_without_a_warning_and_say_why_they_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = ["compile.py", *compiling.SOURCES]
    for name in sources:
        shutil.copy(compiling.HERE / name, tmp_path / name)
    monkeypatch.setenv("CC", "cc -Wall -Wextra -Werror")
    done = subprocess.run([sys.executable, tmp_path / "compile.py"], capture_output=True, text=True, check=True)
    assert (tmp_path / compiling.LIBRARY.name).is_file() and done.stdout + done.stderr == ""
    for compiler, said in ((f"{sys.executable} -c exit(3)", "could not compile"), ("/no/compiler", "could not be run")):
        monkeypatch.setenv("CC", compiler)
        done = subprocess.run([sys.executable, tmp_path / "compile.py"], capture_output=True, text=True, check=True)
        assert said in done.stdout and "OpenVINO runs the models" in done.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*sources, compiling.LIBRARY.name])
    monkeypatch.setattr(compiling, "HERE", tmp_path / "nowhere")  # as in a folder that can't be written
    monkeypatch.setattr(compiling, "source_hash", lambda: "")
    assert "could not be run" in str(compiling.compiled())


def test_what_steps_depend_on_is_the_source_not_what_a_compiler_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(fingerprint, "source_sha256", lambda path: read.append(path) or "")
    fingerprint.code_version.__wrapped__("inference")
    assert {compiling.HERE / name for name in compiling.SOURCES} <= set(read) and compiling.LIBRARY not in read
