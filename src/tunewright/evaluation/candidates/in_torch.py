"""The candidates that run in torch, before the model is exported: few-shot, adapter, merged.

They are asked many prompts at once by the engine that training measures with. A model of a billion parameters and more
is held as it lies in its files, which are mapped, so that a machine need not have room for it. On a CPU they
answer a part of the examples, drawn at random: all would take most of a run's time. What serves answers all of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.processes import end_with_parent
from tunewright.core.progress import say
from tunewright.data import load_dataset
from tunewright.evaluation.evidence import Record, by_test, collect, groups_of, load_records
from tunewright.evaluation.statistics.intervals import Interval, ratio
from tunewright.evaluation.verdict.comparison import ADAPTER, CONTROLS, EXPORTED
from tunewright.inference.calibration import UNCALIBRATED, Calibration, Floats, load_calibration
from tunewright.inference.decoding.writing import DecodingRules, Writer
from tunewright.inference.predictors import language_model
from tunewright.inference.predictors.language_model import shots_of
from tunewright.models.resolve import LocalModel, resolve
from tunewright.models.tensor_files import Weights, stored_bytes
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, LabelTrie, Task, task_of
from tunewright.training.diagnosis.history import longest_answer

FEW_SHOT, MERGED = "few_shot", "merged"
LARGE = 1e9
"""Parameters from which on a model is held in its own type."""
SAMPLE, CHECKED = 400, 100
"""Examples that a candidate answers on a CPU: SAMPLE where others are compared with it; CHECKED where the question is
only whether it is still the same model, which is so for the merged one and for a large exported one, or where so many
show that the untuned model is behind the cheap controls."""
ROOM = 1 << 30
"""Bytes for keys and values of what is asked at once."""
AT_ONCE = 64
"""Prompts in one batch, at the most."""
_GPU_SHARE = 0.85
"""Of a GPU's free memory, what weights may take."""


def ask_in_torch(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Write the answers of each candidate that are not there yet, in a process that ends before another is loaded."""
    base = resolve(spec.model, spec.folder)
    names = [name for name in (FEW_SHOT, ADAPTER, MERGED) if name != FEW_SHOT or spec.evaluate.few_shot]
    if all((answers / f"{name}.jsonl").exists() for name in names):
        return
    if not _apart(base):
        for part in (_unmerged, _merged):
            part(spec, inputs, tests, answers)
        return
    for part in (_unmerged, _merged):
        # What torch and CUDA hold is given back for sure only by a process that ends.
        with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as alone:
            try:
                alone.submit(part, spec, inputs, tests, answers).result()
            except BrokenProcessPool:
                raise UserError(
                    "The process that asks the candidates in torch was ended by the system.",
                    why="Most likely memory ran out: the kernel's log says so (dmesg).",
                    fix="Set evaluate.few_shot=0, or run on a machine with more memory: tunewright plan says how much. "
                    "What was answered so far is kept.",
                ) from None


def sample_for(
    name: str, base: Path, splits: Mapping[str, Sequence[Example]], seed: int, *, on_gpu: bool, first: bool = False
) -> Mapping[str, Sequence[Example]]:
    """What a candidate is asked of each split; those of a smaller sample are in every larger one.

    Args:
        base: folder of the base model.
        on_gpu: whether the candidate runs there; an exported one may run on the few cores beside a GPU.
        first: whether it is asked a few first, to see whether more of them would tell anything.
    """
    checked = first or name == MERGED or (name == EXPORTED and _is_large(base))
    most, total = CHECKED if checked else SAMPLE, sum(map(len, splits.values()))
    if on_gpu or total <= most:
        return splits
    drawn = {}
    for split, examples in splits.items():
        order = random.Random(f"{seed} {split}").sample(range(len(examples)), len(examples))
        drawn[split] = [examples[place] for place in sorted(order[: -(-most * len(examples) // total)])]
    say(f"  {name}: {sum(map(len, drawn.values()))} of {total} examples, drawn at random")
    return drawn


def _unmerged(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """The base with examples in its prompt, and with the adapter."""
    from peft import PeftModel

    asking = _Asking(spec, inputs, tests, answers)
    weights = asking.load(asking.base.folder, nf4=spec.train.method == "qlora")
    if spec.evaluate.few_shot:
        train = load_dataset(inputs["split"]).train
        untaught = asking.untaught
        shots = shots_of(train, untaught.answers, spec.evaluate.few_shot, asking.tokenizer.encode_verbatim)
        asking.ask(FEW_SHOT, weights, shots, UNCALIBRATED, untaught, first=True)
        if asking.tells_more(FEW_SHOT):
            (answers / f"{FEW_SHOT}.jsonl").unlink()
            asking.ask(FEW_SHOT, weights, shots, UNCALIBRATED, untaught)
    asking.ask(ADAPTER, PeftModel.from_pretrained(weights, str(inputs["train"] / "adapter")))


def _merged(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Base and adapter as one; on a GPU only if it has room for that."""
    folder = inputs["export"] / "merged"
    if short := _lacking(folder):
        say(f"  {MERGED}: not asked, because its weights are {short:.1f} GiB more than the GPU has room for")
        return
    asking = _Asking(spec, inputs, tests, answers)
    asking.ask(MERGED, asking.load(folder))


class _Asking:
    """What the candidates have in common."""

    def __init__(self, spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path):
        from tunewright.core.progress import quiet_libraries

        quiet_libraries()
        self._spec, self._tests, self._answers = spec, tests, answers
        self.base: LocalModel = resolve(spec.model, spec.folder)
        self.tokenizer = TextTokenizer(self.base.folder)
        job = task_of(spec.task)
        self._taught, self.untaught = (each.fitted(self.tokenizer.encode_verbatim) for each in (job, job.untaught()))
        self._longest = longest_answer(inputs["train"])
        self._tuned = load_calibration(inputs["export"] / "bundle")

    def load(self, folder: Path, *, nf4: bool = False) -> Any:
        from tunewright.inference.runtimes.torch_model import (
            compute_type,
            load_torch_model,
            stored_type,
            upcast,
            weights_type,
        )

        if nf4:
            return load_torch_model(folder, dtype=compute_type(self._spec.train.precision), nf4=True)
        if not _is_large(folder):
            return load_torch_model(folder, dtype=weights_type(self._spec.train.precision))
        return upcast(load_torch_model(folder, dtype=stored_type(folder)))

    def ask(
        self,
        name: str,
        model: Any,
        shots: Sequence[Example] = (),
        sure: Calibration | None = None,
        task: Task | None = None,
        *,
        first: bool = False,
    ) -> None:
        """Write a candidate's answers.

        Args:
            first: as of `sample_for`.
        """
        from tunewright.inference.runtimes.torch_model import TorchNextToken

        task = task or self._taught
        asked = language_model(
            TorchNextToken(model),
            task,
            self.base.template,
            self.tokenizer,
            self.base.folder,
            self._longest,
            shots,
            self._tuned if sure is None else sure,
        )
        on_gpu = model.device.type != "cpu"
        splits = sample_for(name, self.base.folder, self._tests, self._spec.seed, on_gpu=on_gpu, first=first)
        collect(name, asked, task, splits, self._answers, TorchTogether(model))

    def tells_more(self, name: str) -> bool:
        """Whether more answers of a candidate would tell more than those that are there: not where they are all, and
        not where, on any split, they are worse than a control's beyond chance."""
        found = by_test(load_records(self._answers / f"{name}.jsonl"))
        if sum(map(len, found.values())) == sum(map(len, self._tests.values())):
            return False
        files = [self._answers / f"{control}.jsonl" for control in CONTROLS]
        controls = [by_test(load_records(file)) for file in files if file.exists()]
        return all(_reach(part).high >= _reach(each[split]).value for split, part in found.items() for each in controls)


class TorchTogether:
    """A model in torch that answers many prompts at once; see
    `tunewright.inference.predictors.language_model.Together`.

    What prompts begin with alike is read once for all of them where the model follows the layout of packed batches,
    which is tried on its first prompts.
    """

    def __init__(self, model: Any):
        self._model = model.eval()
        config = model.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self._token_bytes = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
        """Of keys and values."""
        self._engine: Any = None

    def scores(self, trie: LabelTrie, prompts: Sequence[list[int]], temperature: float | None) -> list[Floats]:
        from tunewright.training.engine.packing import numbered
        from tunewright.training.loop.answering import scored_labels

        if self._engine is None:
            from tunewright.training.engine.fast_paths import fit_engine

            rows = [numbered(prompt, min(prompt)) for prompt in prompts[:2]]
            self._engine = fit_engine(self._model, rows)
        own = max(map(len, prompts)) if not self._engine.shared_prefix else _own(prompts)
        return scored_labels(self._model, self._engine, prompts, trie, self._at_once(own), temperature)

    def written(self, rules: DecodingRules, prompts: Sequence[list[int]], most: int) -> list[Writer]:
        from tunewright.inference.runtimes.torch_writer import write_all

        if not prompts:
            return []
        return write_all(self._model, rules, prompts, most, self._at_once(max(map(len, prompts)) + most))

    def _at_once(self, tokens: int) -> int:
        """Prompts of so many tokens each, in one batch."""
        return max(1, min(AT_ONCE, int(ROOM // (self._token_bytes * max(tokens, 1)))))


def _reach(records: Sequence[Record]) -> Interval:
    return ratio([record.primary_metric for record in records], groups_of(records))


def _own(prompts: Sequence[list[int]]) -> int:
    """Tokens of the longest prompt that not all begin with."""
    from tunewright.inference.runtimes.prefix import common_prefix

    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    return max(map(len, prompts)) - shared


def _is_large(folder: Path) -> bool:
    return sum(tensor.raw.size for tensor in Weights(folder).values()) >= LARGE


def _apart(base: LocalModel) -> bool:
    """Whether memory matters so much that each candidate is to have a process of its own."""
    import torch

    return torch.cuda.is_available() or _is_large(base.folder)


def _lacking(folder: Path) -> float:
    """GiB that a GPU is short of for the weights of a folder; 0 where they fit, or there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    free, _ = torch.cuda.mem_get_info()
    return max(0.0, stored_bytes(folder) - _GPU_SHARE * float(free)) / 2**30
