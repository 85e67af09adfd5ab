"""The exported model in other engines: whether they read the same tokens and give the same answers on a test sample.

Each gets the folder `merged/`, or a GGUF file of it, and nothing else from Tunewright. The report also names engines
that are not installed, so that nobody takes their absence for a proof.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import httpx

from tunewright.core.errors import UserError
from tunewright.core.progress import say, track
from tunewright.core.threads import threads
from tunewright.data import evenly
from tunewright.evaluation.evidence import VALIDATION, Record
from tunewright.exporters.gguf.export import write_gguf
from tunewright.exporters.gguf.llama import llama_model, require_llama
from tunewright.exporters.other_engines import Asking, asking_in
from tunewright.inference.bundle import Bundle
from tunewright.inference.runtimes.vllm_model import PlainVllm
from tunewright.models.chat import token_counter
from tunewright.tasks import Example, Message, Task
from tunewright.tasks.base import OneOf, Unfit

SAMPLE = 20
"""Test examples for each engine."""
_ERROR_CHARACTERS = 200
"""Characters of an engine's error message that the report shows."""
_SECONDS = 600.0
"""Seconds after which an engine gets no further example: for a large model on a CPU a few answers must do."""
_IN_WINDOWS = "Every test document is read in windows, which other engines do not do."

Ask = Callable[[Sequence[Message], bool], tuple[str | None, list[int]]]
"""(messages, whether the answer is confined to the labels) -> (the answer, the token ids of the prompt). The answer is
None where an engine only makes prompts."""


@dataclass(frozen=True)
class Elsewhere:
    """The exported model in another engine."""

    engine: str
    asked: int = 0
    alike: float | None = None
    """Mean score of its answers with the server's taken as the right ones, each by its example's weight; for labels,
    the share that is equal. The answer is confined to the labels, as on the server."""
    freely_alike: float | None = None
    """The same where the engine writes labels freely, as for a client without a constraint."""
    prompts_alike: float | None = None
    """Share of the prompts that it reads as exactly the same tokens as the server."""
    why: str = ""
    """Why it was not asked."""

    @property
    def summary(self) -> str:
        """The result in a few words."""
        if self.why:
            return f"{self.engine}: not asked. {self.why}"
        answers = "" if self.alike is None else f", answers {self.alike:.0%} alike"
        if self.freely_alike is not None:
            answers += f" where its choice is confined to the labels, {self.freely_alike:.0%} where it is not"
        return f"{self.engine}: {self.prompts_alike:.0%} of {self.asked} prompts alike{answers}"


def elsewhere(
    bundle: Bundle, merged: Path, splits: Mapping[str, Sequence[Example]], served: Sequence[Record], scratch: Path
) -> list[Elsewhere]:
    """Ask every installed engine about a sample of the test examples that are read in one piece; none where all are
    read in windows.

    Args:
        merged: the folder that `export` writes.
        served: the answers of the bundle's server.
        scratch: a folder on a disk with space for a GGUF file.
    """
    tests = [example for name, examples in splits.items() if name != VALIDATION for example in examples]
    count = token_counter(bundle.tokenizer)
    sample = evenly([each for each in tests if len(bundle.task.chunks(each.request, count)) == 1], SAMPLE)
    answers = {record.id: record.answer for record in served if record.split != VALIDATION}
    asking = asking_in(merged, bundle)

    def compared(engine: str, opened: Callable[[], Iterator[Ask]]) -> Elsewhere:
        if not sample:
            return Elsewhere(engine, why=_IN_WINDOWS)
        try:
            with contextmanager(opened)() as ask:
                result = _compare(engine, ask, bundle, sample, answers)
        except UserError as error:
            result = Elsewhere(engine, why=str(error))
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
            # Another engine's fault is a finding about it, and no reason to lose the run.
            result = Elsewhere(engine, why=f"It failed: {type(error).__name__}: {str(error)[:_ERROR_CHARACTERS]}")
        say(f"  {result.summary}")
        return result

    return [
        compared("transformers", lambda: _transformers(merged)),
        compared("llama.cpp, Q8_0", lambda: _llama(merged, asking, bundle.info.context, scratch)),
        compared("vLLM's chat API", lambda: _vllm(merged, asking, bundle.info.context)),
    ]


def _compare(engine: str, ask: Ask, bundle: Bundle, sample: Sequence[Example], served: Mapping[str, str]) -> Elsewhere:
    score, freely, weights, prompts = [], [], [], []
    confined = isinstance(bundle.task.constraint, OneOf)
    until = time.monotonic() + _SECONDS
    with track(engine, len(sample), "answers") as tracker:
        for number, example in enumerate(sample, 1):
            messages = bundle.task.prompt(example.request)
            right = served[example.meta.id]
            text, ids = ask(messages, confined)
            prompts.append(ids == bundle.template.encode_prompt(messages, bundle.tokenizer))
            if text is not None:
                weights.append(example.importance)
                score.append(_score_of(bundle.task, example.request, right, text))
                if confined:
                    freely.append(_score_of(bundle.task, example.request, right, ask(messages, False)[0] or ""))
            tracker.update(number)
            if time.monotonic() > until:
                break
    alike = fmean(prompts)  # whether prompts are alike is no share of the requests
    return Elsewhere(engine, len(prompts), _mean(score, weights), _mean(freely, weights), alike)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float | None:
    """The mean, each example by its weight; None where there are no values."""
    return fmean(values, weights) if values else None


def _score_of(task: Task, request: str, right: str, text: str) -> float:
    """The score of an engine's text with the server's answer taken as the right one."""
    try:
        answer = task.canonical(text.strip())
    except Unfit:
        return 0.0
    return task.measures(request, right, answer)[task.primary_metric].score


def _transformers(merged: Path) -> Iterator[Ask]:
    """Prompts only: its answers are those of the candidate `merged`, which runs in torch."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise UserError("transformers is not installed.", fix="Type: pip install 'tunewright[train]'") from None
    tokenizer = AutoTokenizer.from_pretrained(merged, local_files_only=True)

    def ask(messages: Sequence[Message], confined: bool) -> tuple[None, list[int]]:  # noqa: ARG001 (as the others)
        plain = [{"role": each.role, "content": each.content} for each in messages]
        return None, list(
            tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=True)["input_ids"]
        )

    yield ask


def _llama(merged: Path, asking: Asking, context: int, scratch: Path) -> Iterator[Ask]:
    require_llama()
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".gguf-") as folder:
        (file,) = write_gguf(merged, Path(folder), "model", ["q8_0"], asking, "parity")
        with llama_model(file.path, context, threads()) as model:
            yield lambda messages, confined: model.answer(messages, asking.most, asking.grammar if confined else "")


def _vllm(merged: Path, asking: Asking, context: int) -> Iterator[Ask]:
    model = PlainVllm(merged, context=context)
    try:
        yield lambda messages, confined: model.chat(messages, asking.confined if confined else {})
    finally:
        model.close()
