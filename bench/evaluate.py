"""Answering a classification test in torch: by scoring labels, by constrained generation, by free generation.

    python bench/quality.py final banking77            # trains the adapter, half an hour
    python bench/evaluate.py banking77 [examples]      # all 3,080 tests, or so many evenly spaced ones

All candidates are the same adapter on the same prompts in one process, 32 at once but where told. Constrained
generation is transformers' `generate` with `prefix_allowed_tokens_fn` over the trie of the labels' tokens, asked 1,000
tests; free generation stops at the end of the turn, what it writes is right where it is the label, and it is asked 500.
An adapter that was taught with `loss: labels`, as this one, is never taught what to write where nothing confines it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tunewright as tw
from tunewright.core.progress import quiet_libraries
from tunewright.data import evenly, load_dataset
from tunewright.evaluation.statistics.intervals import wilson
from tunewright.inference.predictors import LabelScorer
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.models.chat import answer_tokens
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, LabelTrie, task_of
from tunewright.training.engine.fast_paths import fit_engine
from tunewright.training.loop.prepare import Encoder
from tunewright.training.loop.trainer import load_adapter

AT_ONCE = 32
PAD = 0


def generated(
    model: Any, prompts: Sequence[list[int]], longest: int, end: int, allowed: Callable[[list[int]], list[int]] | None
) -> list[list[int]]:
    """What `generate` writes after each prompt, the end of the turn left out.

    Args:
        allowed: from what was written so far to the tokens that may follow; None: any.
    """
    import torch

    written: list[list[int]] = [[]] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    for start in range(0, len(prompts), AT_ONCE):
        numbers = by_length[start : start + AT_ONCE]
        width = max(len(prompts[number]) for number in numbers)
        ids = torch.tensor([[PAD] * (width - len(prompts[n])) + prompts[n] for n in numbers])
        mask = torch.tensor([[0] * (width - len(prompts[n])) + [1] * len(prompts[n]) for n in numbers])
        limit = partial(_limit, allowed, width) if allowed else None
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=longest,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=PAD,
                prefix_allowed_tokens_fn=limit,
            )
        for number, row in zip(numbers, out[:, width:].tolist(), strict=True):
            written[number] = row[: row.index(end)] if end in row else row
    return written


def _limit(allowed: Callable[[list[int]], list[int]], width: int, _: int, row: Any) -> list[int]:
    return allowed(row[width:].tolist())


def main(name: str, most: int) -> None:
    quiet_libraries()
    folder = Path(__file__).parent / "runs" / f"{name}-final"
    spec = tw.load_spec(folder)
    runs = folder / "runs" / "latest"
    (test,) = load_dataset(runs / "split").test.values()
    examples = evenly(test, most)
    encoder = Encoder(spec)
    base = encoder.base
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    labels = answer_tokens(task, base.template, tokenizer)

    def prompts_of(asked: Sequence[Example]) -> list[list[int]]:
        return [base.template.encode_prompt(task.prompt(example.request), tokenizer) for example in asked]

    end = next(iter(labels.values()))[-1]
    longest = max(map(len, labels.values()))
    of_tokens = {tuple(ids[:-1]): label for label, ids in labels.items()}
    root = LabelTrie(list(labels.values())).root

    def allowed(written: list[int]) -> list[int]:
        node = root
        for token in written:
            if not node.children:
                break  # the label has ended, and other rows of the batch go on
            node = node.children[token]
        return list(node.children) or [end]

    def plain() -> Any:
        return load_adapter(spec, base.folder, runs / "train" / "adapter")

    def search() -> list[str]:
        model = plain()
        engine = fit_engine(model, encoder.rows(examples[:16]))
        part = encoder.part(examples, most=len(examples))
        started[0] = time.perf_counter()
        return list(part.answer(model, engine))

    def one_by_one() -> list[str]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(load_torch_model(base.folder), str(runs / "train" / "adapter"))
        scorer = LabelScorer(TorchNextToken(model), task, base.template, tokenizer)
        started[0] = time.perf_counter()
        return [scorer.answer(example.request).text for example in some]

    def constrained() -> list[str]:
        model = plain()
        started[0] = time.perf_counter()
        return [of_tokens[tuple(ids)] for ids in generated(model, prompts_of(many), longest, end, allowed)]

    def free() -> list[str]:
        model = plain()
        started[0] = time.perf_counter()
        return [of_tokens.get(tuple(ids), "") for ids in generated(model, prompts_of(few), longest, end, None)]

    started = [0.0]
    some, few, many = (evenly(examples, most) for most in (100, 500, 1000))
    print(f"{name}, {len(examples):,} tests, {len(labels)} labels, {longest} tokens in the longest")
    rates = {}
    for candidate, answer, asked in (
        ("the likeliest label, searched", search, examples),
        ("one test at a time, as in serving", one_by_one, some),
        ("constrained generate", constrained, many),
        ("free generate", free, few),
    ):
        answers = answer()
        seconds = time.perf_counter() - started[0]
        rates[candidate] = len(asked) / seconds
        right = wilson(sum(a == example.answer for a, example in zip(answers, asked, strict=True)), len(asked))
        print(
            f"{candidate:<40} {rates[candidate]:7.1f} answers a second, {100 * right.value:.2f} % right "
            f"({100 * right.low:.2f} to {100 * right.high:.2f}) of {len(asked):,}",
            flush=True,
        )
    first, _, peer, other = rates.values()
    print(f"search against constrained generate: {first / peer:.1f} x; against free generate: {first / other:.1f} x")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10**9)
