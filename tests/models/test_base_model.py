"""The real base model: the restored tokenizer, and weights that are found again without a network."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from tests.conftest import REPOSITORY
from tests.fixtures.short_run import ShortRun
from tunewright.config import load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


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

    from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model

    base = resolve("smollm2-135m", Path())
    tokenizer = TextTokenizer(base.folder)
    logits = TorchNextToken(load_torch_model(base.folder))(tokenizer.encode_text("The capital of France is"))
    assert int(np.argmax(logits)) == tokenizer.encode_text(" Paris")[0]


def test_the_tokens_that_the_demo_prices_are_those_of_its_prompt(short_run: ShortRun) -> None:  # noqa: ARG001
    """Counted with this model's tokenizer; an API's own differs by some per cent."""
    spec = load_spec(REPOSITORY / "examples" / "tickets")
    tokenizer = TextTokenizer(resolve("smollm2-135m", Path()).folder)
    rows = [row for path in spec.data.test.values() for row in read_jsonl(spec.path(path))]
    tickets = [len(tokenizer.encode_text(row["text"])) for row in rows]
    counted = len(tokenizer.encode_text(spec.api.prompt or "")) + fmean(tickets)
    assert spec.api.prompt_tokens == pytest.approx(counted, rel=0.02)
