"""OpenVINO with keys and values in blocks: every architecture answers like torch, and the same whoever else asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.tiny import FAMILIES, NEWER
from tunewright.core.errors import UserError
from tunewright.exporters.decoder import Decoder, Vector
from tunewright.exporters.openvino import build_openvino
from tunewright.inference.runtimes.openvino import network as paged_network
from tunewright.inference.runtimes.openvino import passes
from tunewright.inference.runtimes.openvino.blocks import BlockPool
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.openvino.shape import CONFIG, WEIGHTS
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.models.tensor_files import TensorWriter

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture
def paged(tiny_model: tuple[str, Path], tmp_path: Path) -> Callable[[str], PagedNextToken]:
    """Precision -> the tiny model in OpenVINO."""

    def load(precision: str) -> PagedNextToken:
        build_openvino(tiny_model[1], tmp_path / precision, precision)
        return PagedNextToken(tmp_path / precision, context=512)

    return load


SERVED = [family for family in (*FAMILIES, *NEWER) if family != "gemma4"]


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("int8", 0.06), ("int4", 0.5)])
def test_openvino_answers_like_torch(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, family: str, precision: str, close: float
) -> None:
    folder = make_tiny_model(family)[1]
    build_openvino(folder, tmp_path / precision, precision)
    torch_model, paged_model = (
        TorchNextToken(load_torch_model(folder)),
        PagedNextToken(tmp_path / precision, context=512),
    )
    ids = [*range(2, 200), *range(2, 200)]
    # Longer than a pass and than Mistral's window of 128; a branch back, the same again, an unrelated one, one token.
    for sequence in (ids[:80], ids, [*ids[:70], 9, 8], [*ids[:70], 9, 8], [*ids, 4], [7, 7, 7], [5]):
        wanted = torch_model(sequence)
        error = np.sqrt(np.mean((paged_model(sequence) - wanted) ** 2)) / wanted.std()
        assert error < close, f"the error is {error:.1e} of the logits' own spread"


@pytest.mark.parametrize("family", SERVED)
def test_a_rotated_model_is_the_same_model(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, family: str
) -> None:
    """But for rounding in float32, with norms whose weights are no ones."""
    source, folder = make_tiny_model(family)[1], tmp_path / "turned"
    model, decoder = load_torch_model(source), Decoder(source, rotated=True)
    folder.mkdir()
    writer = TensorWriter(folder / WEIGHTS, 100)
    for part in decoder.parts():
        if isinstance(part, Vector):
            writer.write(part.name, part.values)
        else:
            writer.write(f"{part.module}.weight", (part.rows(*rows) for rows in part.blocks()))
    writer.close()
    (folder / CONFIG).write_text(decoder.config.to_json_string(use_diff=False), "utf-8")
    wanted, found = TorchNextToken(model), PagedNextToken(folder, context=512)
    for ids in (list(range(2, 200)), [7, 7, 7]):
        logits = wanted(ids)
        assert np.sqrt(np.mean((found(ids) - logits) ** 2)) / logits.std() < 1e-5


def test_openvino_says_the_same_whoever_else_asks(paged: Callable[[str], PagedNextToken]) -> None:
    """To the last bit: with an empty memory, with a full one, alone and in any company."""
    model = paged("int8")
    system = list(range(2, 102))
    asked = [[*system, *range(2 + n, 5 + 3 * n), *range(20, 20 + n % 3)] for n in range(40)]
    alone = [model(ids) for ids in asked]
    with ThreadPoolExecutor(16) as clients:
        together = list(clients.map(model, reversed(asked)))
    assert all((one == other).all() for one, other in zip(alone, reversed(together), strict=True))
    # A long one, read in many passes, while the others come and go, in a memory that holds little else.
    long = [3 + n % 200 for n in range(500)]
    expected = model(long)
    with ThreadPoolExecutor(16) as clients:
        first = clients.submit(model, [*long[:400], *system])
        others = list(clients.map(model, [long, *asked]))
    assert (others[0] == expected).all()
    assert all((one == other).all() for one, other in zip(alone, others[1:], strict=True))
    assert (first.result() == model([*long[:400], *system])).all()


def test_passes_side_by_side_say_the_same_from_one_copy_of_the_weights(
    tiny_model: tuple[str, Path], tmp_path: Path
) -> None:
    """To the last bit, whichever of them a thread is given."""
    build_openvino(tiny_model[1], tmp_path / "int8", "int8")
    alone = PagedNextToken(tmp_path / "int8", context=512, threads=1)
    beside = PagedNextToken(tmp_path / "int8", context=512, threads=1, streams=2)
    asked = [[*range(2, 60 + 3 * n), *range(20, 20 + n % 5)] for n in range(20)]
    wanted = [alone(ids) for ids in asked]
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(beside, asked))
    assert all((one == other).all() for one, other in zip(wanted, found, strict=True))
    assert beside.at_once == 2 * alone.at_once
    assert all(reader._pool._last > 0 for reader in beside._schedulers), "one of them was never asked"
    beside.close()
    with pytest.raises(RuntimeError, match="closed"):
        beside([1, 2, 3])


def test_an_answer_grows_the_same_whoever_else_asks(
    paged: Callable[[str], PagedNextToken], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, with memory that is given away meanwhile, and beside the same tokens asked for as a whole."""
    monkeypatch.setattr(passes, "_MEMORY", 0)
    model = paged("int8")

    def write(number: int) -> tuple[list[int], list[np.ndarray]]:
        """Sixty tokens, some of them several at a time, as a grammar gives them."""
        prompt, said, seen = list(range(2, 50 + 5 * number)), list[int](), list[np.ndarray]()
        behind = model.begin(prompt)
        while len(said) < 60:
            seen.append(behind(said))
            said += [int(seen[-1].argmax()), 7, 8][: 3 if len(said) % 9 == number % 9 else 1]
            model([*prompt, *said])
        return said, seen

    alone = [write(number) for number in range(12)]
    model([3] * 500)
    with ThreadPoolExecutor(12) as clients:
        together = list(clients.map(write, range(12)))
    for (said, seen), (also_said, also_seen) in zip(alone, together, strict=True):
        assert said == also_said
        assert all(np.array_equal(one, other) for one, other in zip(seen, also_seen, strict=True))


def test_openvino_refuses_what_its_graph_has_no_parts_for(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="gemma4_text"):
        build_openvino(make_tiny_model("gemma4")[1], tmp_path / "fp32", "fp32")


def test_a_closed_model_tells_whoever_waits(paged: Callable[[str], PagedNextToken]) -> None:
    model = paged("fp32")
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(model, list(range(2, 400 + n))) for n in range(4)]
        model.close()
        for one in waiting:
            try:
                one.result(20)
            except RuntimeError as error:
                assert "closed" in f"{error} {error.__cause__}"
    with pytest.raises(RuntimeError, match="closed"):
        model([1, 2, 3])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the trace is for the log
def test_a_model_that_fails_for_good_says_so(
    paged: Callable[[str], PagedNextToken], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that a pass fails, which only those in it are told, but that memory can't be kept any more."""
    model = paged("fp32")
    assert not model.ended
    with monkeypatch.context() as patch:
        patch.setattr(paged_network.PagedNetwork, "forward", lambda *_: 1 / 0)
        with pytest.raises(RuntimeError, match="could not run a request"):
            model([5, 6, 7])
    assert model([5, 6, 7]).shape
    monkeypatch.setattr(BlockPool, "release", lambda *_: 1 / 0)
    model([5, 6, 8])  # it was read before
    assert model.ended
    with pytest.raises(RuntimeError, match="closed"):
        model([5, 6, 7])


def test_a_model_that_nobody_holds_leaves_no_thread(paged: Callable[[str], PagedNextToken]) -> None:
    before = set(threading.enumerate())  # the threads themselves: their numbers are given anew
    model = paged("fp32")
    model([1, 2, 3])
    (thread,) = set(threading.enumerate()) - before
    del model  # at once: a thread that is in native code when Python ends takes the process down
    assert not thread.is_alive()


def test_a_sequence_longer_than_the_context_is_refused(paged: Callable[[str], PagedNextToken]) -> None:
    model = paged("fp32")
    with pytest.raises(ValueError, match="longer than 512"):
        model([1] * 513)
    assert model([1] * 512).shape == model([1, 2]).shape
