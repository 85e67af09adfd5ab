"""Writes a bundle: one folder with everything that serving needs, and nothing that only training needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.limits import MOST_NGRAMS
from tunewright.inference.bundle import BundleInfo, version_of, write_info
from tunewright.inference.decoding.writing import max_answer_tokens
from tunewright.inference.runtimes.base import FOLDERS, is_of_encoder, runtime_in
from tunewright.inference.runtimes.beside import BESIDE
from tunewright.models.architectures import longest_sequence
from tunewright.models.encoders import LocalEncoder
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import LocalModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Task, task_of
from tunewright.tasks.spans.habits import Habits


def write_bundle(spec: Spec, base: LocalModel, folder: Path, longest: int) -> BundleInfo:
    """Turn a folder that already has the weights into a bundle.

    Args:
        longest: tokens of the longest training answer.
    """
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    info = _write(
        spec,
        folder,
        precision=spec.export.weights,
        context=context_of(spec, base, task, longest),
        longest_answer=longest,
        answer_lead=task.lead,
        label_tokens=dict(task.label_tokens),
        template_sha256=base.template.sha256,
    )
    shutil.copy(base.folder / "tokenizer.json", folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text(base.template.source, "utf-8")
    return info


def context_of(spec: Spec, base: LocalModel, task: Task, longest: int) -> int:
    """Tokens that a prompt and its answer may have together, in every runtime and engine.

    Args:
        longest: tokens of the longest training answer.
    """
    known = longest_sequence(json.loads((base.folder / "config.json").read_text("utf-8")))
    return min(known, spec.train.max_length + max_answer_tokens(task.constraint, longest))


def write_encoder_bundle(
    spec: Spec,
    base: LocalEncoder,
    encoder: Path,
    outputs: Sequence[str],
    habits: Habits,
    folder: Path,
) -> BundleInfo:
    """As `write_bundle`, for an encoder.

    Args:
        encoder: the folder of the tuned encoder.
        outputs: the meaning of a token's logits; empty where the logits are those of the labels.
        habits: see `tunewright.tasks.spans.tags.TagSet`.
    """
    context = min(base.window, spec.train.max_length)
    info = _write(spec, folder, precision=spec.export.weights, context=context, outputs=list(outputs), habits=habits)
    shutil.copy(encoder / "tokenizer.json", folder / "tokenizer.json")
    return info


def write_linear_bundle(spec: Spec, folder: Path) -> BundleInfo:
    """As `write_bundle`, for a linear model."""
    return _write(spec, folder, precision="fp32", context=MOST_NGRAMS)


def _write(
    spec: Spec,
    folder: Path,
    *,
    precision: str,
    context: int,
    longest_answer: int = 0,
    answer_lead: str = "",
    template_sha256: str | None = None,
    **more: Any,
) -> BundleInfo:
    """Write `bundle.json` and the card into a folder that has only the weights. The version is the hash of these.

    Args:
        more: further fields of `BundleInfo`; the defaults fit models that decode no text.
    """
    info = BundleInfo(
        name=spec.name,
        base_model=spec.model_name,
        runtime=runtime_in(folder),
        precision=precision,
        task=spec.task,
        longest_answer=longest_answer,
        answer_lead=answer_lead,
        version=version_of(folder),
        context=context,
        template_sha256=template_sha256,
        **more,
    )
    (folder / "README.md").write_text(_model_card(spec, info, folder), "utf-8")
    write_info(folder, info)
    return info


def _model_card(spec: Spec, info: BundleInfo, folder: Path) -> str:
    train = spec.train
    training = f"{train.method}, rank {train.lora.r}, {train.epochs:g} epochs, lr {train.lr:g}"
    if is_of_encoder(info.runtime):
        training = f"all weights, {train.encoder.epochs:g} epochs, lr {train.encoder.lr:g}"
        if (folder / FOLDERS[info.runtime] / BESIDE).is_dir():
            training += "; a linear model beside it, whose logits are added"
    elif info.runtime == LINEAR:
        training = "TF-IDF of words and parts of words under a linear support vector machine"
    card: dict[str, Any] = {
        "Base model": info.base_model,
        "Task": f"{info.task.kind}, {task_of(info.task).summary}",
        "Training": training,
        "Weights": f"{info.precision} for {info.runtime}, version {info.version}",
        "Context": f"{info.context} tokens",
    }
    if info.template_sha256:
        card["Chat template"] = f"SHA-256 {info.template_sha256}"
    rows = "\n".join(f"| {key} | {value} |" for key, value in card.items())
    return (
        f"# {info.name}\n\nMade with Tunewright. How well it answers and the parity of these "
        f"weights with the trained model are in the run's report.\n\n| | |\n|---|---|\n{rows}\n\n"
        f"Serve it: `tunewright serve {info.name}/bundle`\n"
    )
