"""Our own kernels for encoders: their answers, which depend on no other request, and the graphs that they take."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.conftest import LABELS
from tests.fixtures.encoders import FAMILIES, WINDOW, build, local, with_pooling, write_encoder
from tunewright.inference.runtimes.encoder_model import OPENVINO, EncoderModel
from tunewright.inference.runtimes.openvino.encoder_graph import read_encoder_graph
from tunewright.inference.runtimes.vnni import encoder
from tunewright.inference.runtimes.vnni.encoder import VnniEncoder, _fit

pytestmark = [pytest.mark.model, pytest.mark.may_skip, pytest.mark.usefixtures("kernels_here")]

LENGTHS = (3, 9, 17, 16, 2, 40, WINDOW, 33, 1, 9, 9, 50, 15)
READS = {"mean": ("mean", False), "first": ("cls", False), "tokens": ("mean", True)}
"""What the head reads -> (the pooling, whether the head reads tokens)."""
KNOWN = ("bert", "camembert", "distilbert", "roberta", "xlm-roberta")
"""The architectures that the kernels know."""
PADDING = 1
"""RoBERTa's token that its positions count from, and skip. A text may have it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    """(family, what the head reads, the precision) -> (the folder of the graph, the network in torch)."""

    def write(family: str = "bert", reads: str = "mean", precision: str = "int8") -> tuple[Path, Any]:
        import torch

        from tunewright.training.encoders.network import Network

        folder = tmp_path_factory.mktemp("encoder")
        pooling, per_token = READS[reads]
        base = with_pooling(write_encoder(family, folder / "base"), pooling)
        torch.manual_seed(1)
        network = Network.of(local(base), LABELS, half=False, per_token=per_token).eval()
        torch.nn.init.normal_(network.head.bias, std=0.1)
        network.save_pretrained(folder / "tuned")
        build(folder / "tuned", folder / "graph", "openvino-encoder", precision)
        return folder / "graph", network

    return cache(write)


def texts(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(5, 261, length).tolist() for length in lengths]


def kernels(folder: Path, threads: int = 1) -> VnniEncoder:
    found = VnniEncoder.load(folder / OPENVINO, WINDOW, threads)
    assert found
    return found


def by_openvino(folder: Path, asked: Sequence[Sequence[int]], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with monkeypatch.context() as patched:
        patched.setattr(VnniEncoder, "load", lambda *_: None)
        return EncoderModel(folder, context=WINDOW, threads=1).logits(asked)


@pytest.mark.parametrize(
    ("family", "reads"), [*(("bert", reads) for reads in READS), *((family, "mean") for family in KNOWN[1:])]
)
def test_the_logits_are_as_near_to_torchs_as_openvinos(
    made: Callable[..., tuple[Path, Any]], family: str, reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    folder, network = made(family, reads)
    asked = texts()
    asked.append([PADDING, *asked[1][:4], PADDING, PADDING, *asked[1][4:]])
    with torch.no_grad():
        exact = [network(torch.tensor([ids]))[0].numpy() for ids in asked]
    found, others = kernels(folder).logits(asked), by_openvino(folder, asked, monkeypatch)
    assert [each.shape for each in found] == [each.shape for each in exact]

    def error(logits: Sequence[Any]) -> float:
        return float(np.sqrt(np.mean([np.square(a - b).mean() for a, b in zip(logits, exact, strict=True)])))

    assert 0 < error(found) < 1.25 * error(others)


@pytest.mark.parametrize("reads", READS)
def test_an_answer_does_not_depend_on_the_others_or_on_threads(
    made: Callable[..., tuple[Path, Any]], reads: str
) -> None:
    folder, _ = made("bert", reads)
    asked = texts() * 5
    alone = [kernels(folder).logits([ids])[0] for ids in texts()] * 5
    two = kernels(folder, 2)
    with ThreadPoolExecutor(4) as clients:
        for found in clients.map(two.logits, [asked] * 8):
            assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))


@pytest.mark.parametrize("reads", READS)
def test_threads_without_a_text_help_with_a_long_one_and_change_no_bit(
    made: Callable[..., tuple[Path, Any]], reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made("bert", reads)
    monkeypatch.setattr(encoder, "_SHARE", WINDOW // 4)
    helped: list[int] = []
    real = VnniEncoder._help

    def counted(self: VnniEncoder, buffers: int) -> None:
        real(self, buffers)
        helped.append(buffers)

    monkeypatch.setattr(VnniEncoder, "_help", counted)
    asked = [texts((length,)) for length in (WINDOW, 31, WINDOW - 1, 63, 5)]
    alone = [kernels(folder).logits(each)[0] for each in asked]
    assert not helped
    two = kernels(folder, 2)
    for _ in range(100):
        assert all(np.array_equal(two.logits(each)[0], by) for each, by in zip(asked, alone, strict=True))
    assert helped
    three = kernels(folder, 3)
    with ThreadPoolExecutor(5) as clients:  # more of them than threads, so some wait until a helper leaves
        for found in clients.map(lambda _: [three.logits(each)[0] for each in asked], range(100)):
            assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))


@pytest.mark.parametrize("reads", READS)
def test_amx_changes_no_bit(
    made: Callable[..., tuple[Path, Any]], other_kernels: Callable[[], AbstractContextManager[None]], reads: str
) -> None:
    folder, _ = made("bert", reads)
    here = kernels(folder).logits(texts())
    with other_kernels():
        assert all(np.array_equal(a, b) for a, b in zip(here, kernels(folder).logits(texts()), strict=True))


def test_what_the_runtime_answers_is_the_kernels(made: Callable[..., tuple[Path, Any]]) -> None:
    folder, _ = made()
    model = EncoderModel(folder, context=WINDOW, threads=2)
    assert model.at_once == 2
    assert np.array_equal(model.logits(texts()), kernels(folder).logits(texts()))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(KNOWN)))
def test_other_architectures_are_openvinos(made: Callable[..., tuple[Path, Any]], family: str) -> None:
    folder, _ = made(family)
    assert read_encoder_graph(folder / OPENVINO) is None
    assert np.isfinite(EncoderModel(folder, context=WINDOW, threads=1).logits(texts((9, 12)))).all()


def test_exact_weights_are_openvinos(made: Callable[..., tuple[Path, Any]]) -> None:
    folder, _ = made("bert", "mean", "fp32")
    assert read_encoder_graph(folder / OPENVINO) is None
    assert EncoderModel(folder, context=WINDOW, threads=1).at_once == 1


def _without(name: str, attribute: str, value: str) -> Callable[[ElementTree.Element], None]:
    """A change of the first step of a kind."""

    def change(root: ElementTree.Element) -> None:
        layer = next(each for each in root.iterfind("layers/layer") if each.attrib["type"] == name)
        about = layer.find("data")
        assert about is not None and about.attrib[attribute] != value
        about.attrib[attribute] = value

    return change


def _crossed(root: ElementTree.Element) -> None:
    """The first attention reads the second's keys, say."""
    edges = list(root.iterfind("edges/edge"))
    kinds = {each.attrib["id"]: each.attrib["type"] for each in root.iterfind("layers/layer")}
    into = [each for each in edges if kinds[each.attrib["to-layer"]] == "ScaledDotProductAttention"]
    one, other = (each for each in into if each.attrib["to-port"] == "1")
    one.attrib["from-layer"], other.attrib["from-layer"] = other.attrib["from-layer"], one.attrib["from-layer"]


def _from_another(root: ElementTree.Element) -> None:
    """Positions are counted from another token than the one that is left out: the first of the vocabulary."""
    kinds = {each.attrib["id"]: each.attrib["type"] for each in root.iterfind("layers/layer")}
    into = {(kinds[each.attrib["to-layer"]], each.attrib["to-port"]): each for each in root.iterfind("edges/edge")}
    into["NotEqual", "1"].attrib["from-layer"] = into["Gather", "2"].attrib["from-layer"]


def _scaled_by_many(root: ElementTree.Element) -> None:
    """Attention's scale is a vector."""
    edges = list(root.iterfind("edges/edge"))
    nodes = {each.attrib["id"]: each for each in root.iterfind("layers/layer")}
    scale = next(
        each
        for each in edges
        if nodes[each.attrib["to-layer"]].attrib["type"] == "ScaledDotProductAttention"
        and each.attrib["to-port"] == "4"
    )
    scale.attrib["from-layer"] = next(
        number
        for number, node in nodes.items()
        if (about := node.find("data")) is not None and about.get("shape") == "1, 1, 64"
    )


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("bert", _without("Gelu", "approximation_mode", "TANH")),
        ("bert", _without("MVN", "eps", "0.5")),
        ("bert", _without("MVN", "normalize_variance", "false")),
        ("bert", _without("ScaledDotProductAttention", "causal", "true")),
        ("bert", _without("ReduceMean", "keep_dims", "true")),
        ("bert", _crossed),
        ("bert", _scaled_by_many),
        ("roberta", _without("CumSum", "exclusive", "true")),
        ("roberta", _without("CumSum", "reverse", "true")),
        ("roberta", _from_another),
    ],
)
def test_of_a_graph_that_computes_something_else_nothing_is_taken(
    made: Callable[..., tuple[Path, Any]],
    family: str,
    change: Callable[[ElementTree.Element], None],
    tmp_path: Path,
) -> None:
    folder, _ = made(family)
    tree = ElementTree.parse(folder / OPENVINO)
    change(tree.getroot())
    tree.write(tmp_path / OPENVINO)
    (tmp_path / "model.bin").write_bytes((folder / "model.bin").read_bytes())
    assert VnniEncoder.load(tmp_path / OPENVINO, WINDOW, 1) is None


@pytest.mark.parametrize("size", [0, 1000, -4])
def test_of_weights_that_are_cut_nothing_is_taken(
    made: Callable[..., tuple[Path, Any]], size: int, tmp_path: Path
) -> None:
    folder, _ = made()
    (tmp_path / OPENVINO).write_bytes((folder / OPENVINO).read_bytes())
    (tmp_path / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:size])
    assert VnniEncoder.load(tmp_path / OPENVINO, WINDOW, 1) is None


@pytest.mark.parametrize("part", [{"heads": -4, "width": -16}, {"heads": 0}, {"heads": 2}, {"scale": 1.0}, None])
def test_sizes_that_the_kernels_would_misread_are_openvinos(
    made: Callable[..., tuple[Path, Any]], part: dict[str, Any] | None
) -> None:
    """The last one has no layers, and of the one before the first layer is not like the others."""
    folder, _ = made()
    weights = read_encoder_graph(folder / OPENVINO)
    assert weights and _fit(weights)
    first, *others = weights.layers
    changed = replace(first, **(part or {}))
    alike = [changed] if part == {"scale": 1.0} else [changed, *(replace(each, **(part or {})) for each in others)]
    layers = () if part is None else (*alike, *others)[: len(weights.layers)]
    assert not _fit(replace(weights, layers=layers))


def test_a_file_that_is_no_graph_is_left_to_openvino(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"no")
    for content in (
        "",
        "no",
        '<?xml version="1.0" encoding="none"?><net/>',
        "<net/>",
        "<net><layers><layer id='0' type='Result'/></layers><edges/></net>",
    ):
        (tmp_path / OPENVINO).write_text(content, "utf-8")
        assert read_encoder_graph(tmp_path / OPENVINO) is None


@pytest.mark.parametrize("ids", [[], [5] * (WINDOW + 1), [-1], [1 << 40], [5, 261]])
def test_texts_that_do_not_fit_are_refused(made: Callable[..., tuple[Path, Any]], ids: list[int]) -> None:
    folder, _ = made()
    with pytest.raises(ValueError, match="tokens"):
        kernels(folder).logits([[5, 6], ids])
    assert kernels(folder).logits([]) == []


def test_a_model_that_nobody_uses_leaves_no_thread(made: Callable[..., tuple[Path, Any]]) -> None:
    import threading

    folder, _ = made()
    before = threading.active_count()
    model = kernels(folder, 2)
    model.logits(texts() * 20)
    del model
    gc.collect()
    assert threading.active_count() <= before + 2
