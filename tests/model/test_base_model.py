"""The real base model: the restored tokenizer, and weights that are found again without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.conftest import ShortRun
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer


def test_numbers_are_cut_into_single_digits(short_run: ShortRun) -> None:  # noqa: ARG001 (fills the cache)
    tokenizer = TextTokenizer(resolve("smollm2-135m", Path()).folder)
    assert len(tokenizer.encode_text("2024")) == 4


def test_the_cached_model_needs_no_network(short_run: ShortRun, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    import tunewright.models.fetch

    monkeypatch.setattr(tunewright.models.fetch, "_locate", lambda _: pytest.fail("asked the network"))
    folder = resolve("smollm2-135m", Path()).folder
    assert list(folder.glob("*.safetensors"))


def test_the_base_model_knows_english(short_run: ShortRun) -> None:  # noqa: ARG001
    import numpy as np

    from tunewright.models.torch_model import TorchNextToken, load_torch_model

    base = resolve("smollm2-135m", Path())
    tokenizer = TextTokenizer(base.folder)
    logits = TorchNextToken(load_torch_model(base.folder))(tokenizer.encode_text("The capital of France is"))
    assert int(np.argmax(logits)) == tokenizer.encode_text(" Paris")[0]
