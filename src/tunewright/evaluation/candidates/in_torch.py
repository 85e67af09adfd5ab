"""The candidates that run in torch, before the model is exported: few-shot, adapter, merged.

The engine that training measures with asks them many prompts at once. A model of a billion parameters or more stays as
it is in its files, which are memory-mapped, so that it need not fit into the machine's memory. On a CPU these
candidates answer a random part of the examples, because all of them would take most of a run's time. The served model
answers all of them.
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
from tunewright.inference.decoding.protocols import DecodingRules, Writer
from tunewright.inference.predictors import language_model
from tunewright.inference.predictors.prompted import shots_of
from tunewright.models.resolve import LocalModel, resolve
from tunewright.models.tensor_files import Weights, stored_bytes
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, LabelTrie, Task, task_of
from tunewright.training.diagnosis.history import longest_answer

FEW_SHOT, MERGED = "few_shot", "merged"
LARGE = 1e9
"""A model with this many parameters or more is kept in its own type."""
SAMPLE, CHECKED = 400, 100
"""Examples that a candidate answers on a CPU. SAMPLE where others are compared with it. CHECKED where the question is
only whether it is still the same model, as for the merged one and a large exported one, or where they show that the
untuned model is behind the cheap baselines."""
ROOM = 1 << 30
"""Bytes for the keys and values of one batch."""
AT_ONCE = 64
"""The most prompts in one batch."""
_GPU_SHARE = 0.85
"""Share of a GPU's free memory that weights may take."""


def ask_in_torch(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Write the missing answers of each candidate. A large model runs in a process that ends before the next loads."""
    base = resolve(spec.model, spec.folder)
    names = [name for name in (FEW_SHOT, ADAPTER, MERGED) if name != FEW_SHOT or spec.evaluate.few_shot]
    if all((answers / f"{name}.jsonl").exists() for name in names):
        return
    if not _separate(base):
        for part in (_unmerged, _merged):
            part(spec, inputs, tests, answers)
        return
    for part in (_unmerged, _merged):
        # Only the end of a process surely frees the memory of torch and CUDA.
        with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as alone:
            try:
                alone.submit(part, spec, inputs, tests, answers).result()
            except BrokenProcessPool:
                raise UserError(
                    "The system ended the process that asks the candidates in torch.",
                    why="Most likely memory ran out: the kernel's log says so (dmesg).",
                    fix="Set evaluate.few_shot=0, or run on a machine with more memory: tunewright plan says how much. "
                    "The answers so far are kept.",
                ) from None


def sample_for(
    name: str, base: Path, splits: Mapping[str, Sequence[Example]], seed: int, *, on_gpu: bool, first: bool = False
) -> Mapping[str, Sequence[Example]]:
    """The examples of each split that a candidate answers. Every larger sample contains the smaller ones.

    Args:
        base: folder of the base model.
        on_gpu: whether the candidate runs on a GPU; an exported one may run on the few cores beside a GPU.
        first: whether it answers only a few first, to see whether more would say anything.
    """
    checked = first or name == MERGED or (name == EXPORTED and _is_large(base))
    most, total = CHECKED if checked else SAMPLE, sum(map(len, splits.values()))
    if on_gpu or total <= most:
        return splits
    drawn = {}
    for split, examples in splits.items():
        order = random.Random(f"{seed} {split}").sample(range(len(examples)), len(examples))
        drawn[split] = [examples[index] for index in sorted(order[: -(-most * len(examples) // total)])]
    say(f"  {name}: {sum(map(len, drawn.values()))} of {total} examples, drawn at random")
    return drawn


def _unmerged(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Ask the base model with examples in its prompt, and with the adapter."""
    from peft import PeftModel

    asking = _Asking(spec, inputs, tests, answers)
    weights = asking.load(asking.base.folder, nf4=spec.train.method == "qlora")
    if spec.evaluate.few_shot:
        train = load_dataset(inputs["split"]).train
        untaught = asking.untaught
        shots = shots_of(train, untaught.answers, spec.evaluate.few_shot, asking.tokenizer.encode_verbatim)
        asking.ask(FEW_SHOT, weights, shots, UNCALIBRATED, untaught, first=True)
        if asking.needs_more(FEW_SHOT):
            (answers / f"{FEW_SHOT}.jsonl").unlink()
            asking.ask(FEW_SHOT, weights, shots, UNCALIBRATED, untaught)
    asking.ask(ADAPTER, PeftModel.from_pretrained(weights, str(inputs["train"] / "adapter")))


def _merged(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Ask the merged model; on a GPU only if its weights fit."""
    folder = inputs["export"] / "merged"
    if short := _lacking(folder):
        say(f"  {MERGED}: not asked, because its weights are {short:.1f} GiB more than the GPU has room for")
        return
    asking = _Asking(spec, inputs, tests, answers)
    asking.ask(MERGED, asking.load(folder))


class _Asking:
    """Asks candidates in torch, with everything that they have in common."""

    def __init__(self, spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path):
        from tunewright.core.progress import quiet_libraries

        quiet_libraries()
        self._spec, self._tests, self._answers = spec, tests, answers
        self.base: LocalModel = resolve(spec.model, spec.folder)
        self.tokenizer = TextTokenizer(self.base.folder)
        job = task_of(spec.task)
        self._taught, self.untaught = (each.fitted(self.tokenizer.encode_verbatim) for each in (job, job.untaught()))
        self._longest = longest_answer(inputs["train"])
        self._calibration = load_calibration(inputs["export"] / "bundle")

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
        calibration: Calibration | None = None,
        task: Task | None = None,
        *,
        first: bool = False,
    ) -> None:
        """Write a candidate's answers.

        Args:
            first: as in `sample_for`.
        """
        from tunewright.inference.runtimes.torch_model import TorchNextToken

        task = task or self._taught
        predictor = language_model(
            TorchNextToken(model),
            task,
            self.base.template,
            self.tokenizer,
            self._longest,
            shots,
            self._calibration if calibration is None else calibration,
        )
        on_gpu = model.device.type != "cpu"
        splits = sample_for(name, self.base.folder, self._tests, self._spec.seed, on_gpu=on_gpu, first=first)
        collect(name, predictor, task, splits, self._answers, TorchPromptBatcher(model))

    def needs_more(self, name: str) -> bool:
        """Whether a candidate should answer more examples. It should not where it answered all of them, or where it is
        worse than a baseline beyond chance on some split."""
        answered = by_test(load_records(self._answers / f"{name}.jsonl"))
        if sum(map(len, answered.values())) == sum(map(len, self._tests.values())):
            return False
        files = [self._answers / f"{control}.jsonl" for control in CONTROLS]
        controls = [by_test(load_records(file)) for file in files if file.exists()]
        return all(
            _interval(part).high >= _interval(each[split]).value
            for split, part in answered.items()
            for each in controls
        )


class TorchPromptBatcher:
    """A model in torch that answers many prompts at once; see
    `tunewright.inference.predictors.prompted.PromptBatcher`.

    The model reads the common prefix of the prompts once where it follows the layout of packed batches, which is tried
    on its first prompts.
    """

    def __init__(self, model: Any):
        self._model = model.eval()
        config = model.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self._token_bytes = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
        """Bytes of keys and values per token."""
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

    def generate(self, rules: DecodingRules, prompts: Sequence[list[int]], most: int) -> list[Writer]:
        from tunewright.inference.runtimes.torch_writer import write_all

        if not prompts:
            return []
        return write_all(self._model, rules, prompts, most, self._at_once(max(map(len, prompts)) + most))

    def _at_once(self, tokens: int) -> int:
        """The number of prompts of `tokens` tokens each that fit into one batch."""
        return max(1, min(AT_ONCE, int(ROOM // (self._token_bytes * max(tokens, 1)))))


def _interval(records: Sequence[Record]) -> Interval:
    return ratio([record.primary_metric for record in records], groups_of(records))


def _own(prompts: Sequence[list[int]]) -> int:
    """Tokens of the longest prompt after the prefix that all prompts share."""
    from tunewright.inference.runtimes.prefix import common_prefix

    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    return max(map(len, prompts)) - shared


def _is_large(folder: Path) -> bool:
    return sum(tensor.raw.size for tensor in Weights(folder).values()) >= LARGE


def _separate(base: LocalModel) -> bool:
    """Whether memory is so scarce that each candidate needs its own process."""
    import torch

    return torch.cuda.is_available() or _is_large(base.folder)


def _lacking(folder: Path) -> float:
    """GiB that a GPU lacks for the weights of a folder; 0 where they fit, or there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    free, _ = torch.cuda.mem_get_info()
    return max(0.0, stored_bytes(folder) - _GPU_SHARE * float(free)) / 2**30
