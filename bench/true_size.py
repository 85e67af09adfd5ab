"""Memory and CPU time of every step at a model's true size, on random weights: neither depends on what they say.

    python bench/true_size.py phi-3-mini [STEP ...]          # or mistral-7b, llama-3-8b, any name of the catalogue
    python bench/true_size.py phi-3-mini@4 merge serve-int8  # its first four layers

A model is made once in bench/runs/true_size/, in bfloat16 shards of 2 GiB. Each step runs in a process of its own, as a
run's step does. Anon is memory that can't be evicted: the highest that /proc shows of the process and its children,
looked at twenty times a second; rss counts the mapped pages of files too, which the operating system takes back when it
needs them.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.models.catalogue import catalogue
from tunewright.models.skeleton import skeleton
from tunewright.models.tensor_files import INDEX, TensorWriter

if TYPE_CHECKING:
    from tunewright.exporters.gguf.export import Precision

RUNS = Path(__file__).parent / "runs" / "true_size"
SHARD = 2 << 30
RANK = 16
PROMPT, TICKET, WRITTEN = 610, 60, 8
"""Tokens: of a system prompt, of what is asked behind it, and that are written."""
ASKED = 64
"""Prompts that a candidate in torch is asked about."""
LOOKS = 0.05
"""Seconds between two looks at the memory."""


def config_of(name: str) -> Any:
    model, _, layers = name.partition("@")
    shape = catalogue()[model].shape
    assert shape, f"{model} has no shape in the catalogue"
    return (shape.model_copy(update={"layers": int(layers)}) if layers else shape).config()


def make_model(name: str, folder: Path) -> None:
    """Weights of a normal distribution, each tensor a piece of the same numbers."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    config = config_of(name)
    numbers = np.random.default_rng(0).normal(0, 0.02, (1 << 24) + 4096).astype(np.float32)
    noise = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    one = np.uint16(0x3F80)
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for tensor, value in skeleton(config, "bfloat16").state_dict().items():
        if tensor == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if size + 2 * value.numel() > SHARD and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append((tensor, tuple(value.shape)))
        size += 2 * value.numel()
    placed: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        writer = TensorWriter(partial / file, len(tensors))
        for seed, (tensor, sides) in enumerate(tensors):
            placed[tensor] = file
            if len(sides) == 1:
                writer.write(tensor, np.full(sides, one), "BF16")
                continue
            step = max(1, (1 << 24) // sides[1])
            starts = range(0, sides[0], step)
            first = seed % 4096
            writer.write(
                tensor,
                (
                    noise[first : first + min(step, sides[0] - start) * sides[1]].reshape(-1, sides[1])
                    for start in starts
                ),
                "BF16",
            )
        writer.close()
    (partial / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}), "utf-8")
    config.architectures = [type(skeleton(config, "bfloat16")).__name__]
    config.dtype = "bfloat16"
    config.save_pretrained(partial)
    make_tokenizer(partial)
    make_adapter(config, partial / "adapter")
    partial.rename(folder)


def make_tokenizer(folder: Path) -> None:
    """Bytes and one pair, which every vocabulary has room for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pair = ("t", "h")
    known = {token: number for number, token in enumerate([*alphabet, "".join(pair)])}
    tokenizer = Tokenizer(models.BPE(known, [pair]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)


def make_adapter(config: Any, folder: Path) -> None:
    """LoRA on every matrix of every layer, as peft writes it."""
    from torch import nn

    folder.mkdir()
    rng = np.random.default_rng(1)
    layers = [
        (name, module)
        for name, module in skeleton(config, "bfloat16").named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    ]
    writer = TensorWriter(folder / "adapter_model.safetensors", 2 * len(layers))
    for name, layer in layers:
        for part, sides in (("A", (RANK, layer.in_features)), ("B", (layer.out_features, RANK))):
            values = rng.normal(0, 0.01, sides).astype(np.float32)
            writer.write(f"base_model.model.{name}.lora_{part}.weight", values)
    writer.close()
    targets = sorted({name.rpartition(".")[2] for name, _ in layers})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 32,
        "target_modules": targets,
        "base_model_name_or_path": "base",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings), "utf-8")


# The steps. Each takes the model's folder and one for what it writes; what it returns is printed.


def merge(model: Path, out: Path) -> dict[str, Any]:
    from tunewright.exporters.merging import merge

    shutil.rmtree(out / "merged", ignore_errors=True)
    merge(model, model / "adapter", out / "merged")
    return {}


def _build(precision: str) -> Callable[[Path, Path], dict[str, Any]]:
    def build(_: Path, out: Path) -> dict[str, Any]:
        from tunewright.exporters.openvino import build_openvino

        shutil.rmtree(out / precision, ignore_errors=True)
        loss = build_openvino(out / "merged", out / precision, precision)
        return {"error": f"{loss.relative:.2%}"}

    return build


def _onnx(precision: str) -> Callable[[Path, Path], dict[str, Any]]:
    def build(_: Path, out: Path) -> dict[str, Any]:
        from tunewright.exporters.onnx import build_onnx

        shutil.rmtree(out / f"onnx-{precision}", ignore_errors=True)
        build_onnx(out / "merged", out / f"onnx-{precision}", precision)
        return {}

    return build


def _gguf(precision: Precision) -> Callable[[Path, Path], dict[str, Any]]:
    def build(model: Path, out: Path) -> dict[str, Any]:
        from tunewright.exporters.gguf.export import write_gguf
        from tunewright.exporters.other_engines import Asking
        from tunewright.tasks import task_of

        shutil.copy(model / "tokenizer.json", out / "merged")
        asking = Asking(task_of(_spec(model, out).task), "", "{{ messages[0].content }}", 256, 1, {})
        write_gguf(out / "merged", out / precision, "model", [precision], asking, "random")
        return {}

    return build


def _serve(precision: str) -> Callable[[Path, Path], dict[str, Any]]:
    def serve(_: Path, out: Path) -> dict[str, Any]:
        from tunewright.inference.runtimes.openvino.model import PagedNextToken

        started = time.process_time()
        model = PagedNextToken(out / precision, context=1024)
        return {"load_cpu_s": round(time.process_time() - started, 1), **answers(model)}

    return serve


def _serve_onnx(precision: str) -> Callable[[Path, Path], dict[str, Any]]:
    def serve(_: Path, out: Path) -> dict[str, Any]:
        from tunewright.inference.runtimes.ort_model import OrtNextToken

        started = time.process_time()
        model = OrtNextToken(out / f"onnx-{precision}", context=1024)
        return {"load_cpu_s": round(time.process_time() - started, 1), **answers(model)}

    return serve


def _prompts(count: int) -> list[list[int]]:
    """Prompts that begin alike."""
    draw = random.Random(0)
    begin = draw.choices(range(5, 30000), k=PROMPT)
    return [[*begin, *draw.choices(range(5, 30000), k=TICKET)] for _ in range(count)]


def _spec(model: Path, out: Path) -> Any:
    from tunewright.config import parse_spec

    content = {
        "name": "true-size",
        "task": {"kind": "classify", "instruction": "x", "labels": ["a", "b"]},
        "data": {"train": "none.jsonl"},
        "model": str(model),
        "train": {
            "method": "qlora",
            "batch_size": 4,
            "max_steps": 2,
            "num_checkpoints": 0,
            "gradient_checkpointing": True,
        },
    }
    return parse_spec(json.dumps(content), out / "tunewright.yaml")


def train(model: Path, out: Path) -> dict[str, Any]:
    """Two steps of four examples with QLoRA, the trial of the fast paths before them."""
    from tunewright.training.loop.trainer import build_trainer

    spec = _spec(model, out)
    rows = [{"input_ids": [*ids, 7, 8], "labels": [-100] * len(ids) + [7, 8]} for ids in _prompts(8)]
    started = time.process_time()
    trainer = build_trainer(spec, model, rows, out / "train", 0)
    ready = time.process_time()
    trainer.train()
    return {"ready_cpu_s": round(ready - started), "step_cpu_s": round((time.process_time() - ready) / 2)}


def _evaluate(nf4: bool) -> Callable[[Path, Path], dict[str, Any]]:
    def evaluate(model: Path, out: Path) -> dict[str, Any]:
        from peft import PeftModel

        from tunewright.evaluation.candidates.in_torch import TorchPromptBatcher
        from tunewright.inference.runtimes.torch_model import compute_type, load_torch_model, stored_type, upcast
        from tunewright.tasks import LabelTrie

        if nf4:
            loaded: Any = load_torch_model(model, dtype=compute_type("auto"), nf4=True)
            loaded = PeftModel.from_pretrained(loaded, str(model / "adapter"))
        else:
            loaded = upcast(load_torch_model(out / "merged", dtype=stored_type(out / "merged")))
        trie = LabelTrie([[number, 3] for number in range(100, 108)])
        prompts = _prompts(ASKED)
        together = TorchPromptBatcher(loaded)
        started = time.process_time()
        together.scores(trie, prompts, 1.0)
        return {"ticket_cpu_s": round((time.process_time() - started) / ASKED, 2)}

    return evaluate


def answers(model: Any) -> dict[str, Any]:
    """CPU seconds of a ticket behind a cached prompt, and of a token that is written behind it."""
    ids = random.Random(0).choices(range(5, 30000), k=PROMPT + TICKET)
    model(ids[:PROMPT])
    started = time.process_time()
    model(ids)
    ticket = time.process_time() - started
    started = time.process_time()
    if hasattr(model, "begin"):
        grows, said = model.begin(ids), list[int]()
        for _ in range(WRITTEN):
            said.append(int(grows(said).argmax()))
        model.close()
    else:
        for _ in range(WRITTEN):
            ids.append(int(model(ids).argmax()))
    return {"ticket_cpu_s": round(ticket, 2), "token_cpu_s": round((time.process_time() - started) / WRITTEN, 3)}


STEPS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "train": train,
    "merge": merge,
    "int8": _build("int8"),
    "int4": _build("int4"),
    "onnx-int8": _onnx("int8"),
    "onnx-int4": _onnx("int4"),
    "q8_0": _gguf("q8_0"),
    "q4_k_m": _gguf("q4_k_m"),
    "serve-int8": _serve("int8"),
    "serve-int4": _serve("int4"),
    "serve-onnx-int8": _serve_onnx("int8"),
    "serve-onnx-int4": _serve_onnx("int4"),
    "evaluate-nf4": _evaluate(nf4=True),
    "evaluate-merged": _evaluate(nf4=False),
}


# Measuring.


class Watched:
    """The memory of a process and its children."""

    def __init__(self, process: int):
        self.anon = self.rss = 0
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(LOOKS):
            found = [_memory(each) for each in _family(self._process)]
            self.anon = max(self.anon, sum(anon for anon, _ in found))
            self.rss = max(self.rss, sum(rss for _, rss in found))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def _family(process: int) -> list[int]:
    """A process and all that it started."""
    try:
        threads = [*Path(f"/proc/{process}/task").iterdir()]
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [process, *(each for child in children for each in _family(int(child)))]


def _memory(process: int) -> tuple[int, int]:
    """(anonymous bytes, resident bytes)"""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return found.get("RssAnon", 0) + found.get("RssShmem", 0), sum(found.values())


def measure(name: str, step: str, folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, name, "--inside", step], stdout=subprocess.PIPE, text=True)
    watched = Watched(process.pid)
    printed, _ = process.communicate()
    watched.end()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wrote = sum(file.stat().st_size for file in (folder / "out" / step).rglob("*") if file.is_file())
    found = printed.strip().splitlines()[-1] if process.returncode == 0 and printed.strip() else "failed"
    print(
        f"| {name} | {step} | {watched.anon / 2**30:.1f} | {watched.rss / 2**30:.1f} | {cpu:.0f} | "
        f"{time.perf_counter() - started:.0f} | {wrote / 2**30:.1f} | {found} |",
        flush=True,
    )


def main(arguments: Sequence[str]) -> None:
    name, *steps = arguments
    folder = RUNS / name
    if steps[:1] == ["--inside"]:
        print(json.dumps(STEPS[steps[1]](folder, folder / "out")))
        return
    if not folder.exists():
        make_model(name, folder)
    (folder / "out").mkdir(exist_ok=True)
    print(
        "| model | step | anon GiB | rss GiB | CPU s | s | written GiB | |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for step in steps or STEPS:
        measure(name, step, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
