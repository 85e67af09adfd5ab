"""The graph of an encoder, damaged: our own kernels run it, or leave it to OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import LABELS
from tests.fixtures.encoders import WINDOW, build, local, write_encoder
from tests.fuzz.mutation import mutated, names, seeds
from tests.fuzz.running import Check, Input
from tunewright.inference.runtimes.encoder_model import OPENVINO
from tunewright.inference.runtimes.vnni.encoder import VnniEncoder

pytestmark = pytest.mark.model

NAME = "encoder_graph"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tunewright.training.encoders.network import Network

    folder = tmp_path_factory.mktemp("encoder")
    Network.of(local(write_encoder("bert", folder / "base")), LABELS, half=False).save_pretrained(folder / "tuned")
    build(folder / "tuned", folder / "graph", "openvino-encoder", "int8")
    return folder / "graph"


@pytest.fixture
def check(graph: Path, tmp_path: Path) -> Check:
    (tmp_path / "model.bin").symlink_to(graph / "model.bin")

    def check(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        model = VnniEncoder.load(tmp_path / name, WINDOW, 1)
        if model:
            with suppress(ValueError):  # another vocabulary, or other positions
                assert np.shape(model.logits([[2, 5, 3]])[0])[-1] > 0

    return check


@pytest.mark.parametrize("seed", seeds(NAME), ids=names(NAME))
def test_kept(seed: Input, check: Check, keep: Callable[..., None]) -> None:
    keep(check, seed)


def test_mutated_graphs(check: Check, graph: Path, fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated(NAME, ((OPENVINO, (graph / OPENVINO).read_bytes()),)), 60)
