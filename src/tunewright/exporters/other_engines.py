"""The files that other engines need beside the weights for the same answers: template, token settings, system prompt,
card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import write_json
from tunewright.core.page import render
from tunewright.evaluation.report.model_card import LICENCES
from tunewright.exporters.bundle import context_of
from tunewright.exporters.plain_template import plain_form
from tunewright.inference.bundle import Bundle, BundleInfo
from tunewright.inference.decoding.writing import max_answer_tokens
from tunewright.inference.runtimes.vllm_model import max_lora_rank
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.chat import ChatTemplate, answer_tokens, end_token
from tunewright.models.naming import published_name
from tunewright.models.resolve import LocalModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Task, task_of
from tunewright.tasks.base import FreeText

SYSTEM_PROMPT = "system_prompt.txt"
CHOICES = "choices.json"
"""For a task with a fixed set of answers: the fields of a request to vLLM that confine the answer to them."""
GRAMMAR = "answers.gbnf"
"""The same as a llama.cpp grammar of token ids (ggml-org/llama.cpp#17816, December 2025)."""
_OF_TOKENIZER = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model")
_SAMPLE = "What is asked."


@dataclass(frozen=True)
class Asking:
    """How to ask a tuned model in any engine."""

    task: Task
    """The task as trained, with the lead and the single-token labels that suit the tokenizer."""
    system: str
    """The system prompt, exactly as trained."""
    template: str
    """The chat template in plain form; see `tunewright.exporters.plain_template`."""
    end: int
    """The token that ends a turn."""
    most: int
    """Tokens that an answer may have."""
    context: int
    """Tokens that a prompt and its answer may have together. An engine needs it: for a longer context it may encode
    the positions of all requests in another way."""
    choices: Mapping[str, Sequence[int]]
    """The possible answers as written, with their tokens and the turn's end; empty without a fixed set of answers."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer, besides the end of the turn."""
        constraint = self.task.constraint
        return constraint.stop if isinstance(constraint, FreeText) else ()

    @property
    def confined(self) -> dict[str, Any]:
        """The fields of a request to vLLM that confine the answer to a choice, in the tokens of its training. The text
        alone would allow other tokens of the same text, about which the model has learnt nothing."""
        tokens = sorted({token for ids in self.choices.values() for token in ids})
        return {"structured_outputs": {"choice": list(self.choices)}, "allowed_token_ids": tokens}

    @property
    def grammar(self) -> str:
        """The choices as a llama.cpp grammar, which ends the turn by itself."""
        comments = [f"# {' '.join(map(str, ids[:-1]))}: {json.dumps(text)}" for text, ids in self.choices.items()]
        ways = [" ".join(f"<[{token}]>" for token in ids[:-1]) for ids in self.choices.values()]
        return "\n".join([*comments, f"root ::= {' | '.join(ways)}", ""])


def asking_of(spec: Spec, base: LocalModel, longest: int) -> Asking:
    """How to ask a spec's tuned model.

    Args:
        longest: tokens of the longest training answer.

    Raises:
        UserError: the template has no plain form.
    """
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    messages = task.prompt(_SAMPLE)
    template = plain_form(base.template, messages, task.written("{}"), special_tokens(base.folder))
    choices = _choices(task, base.template, tokenizer)
    # For labels, the training may have had only the tokens that decide between them.
    most = max(map(len, choices.values())) if choices else max_answer_tokens(task.constraint, longest)
    return Asking(
        task,
        messages[0].content,
        template,
        end_token(task, base.template, tokenizer),
        most,
        context_of(spec, base, task, longest),
        choices,
    )


def _choices(task: Task, template: ChatTemplate, tokenizer: TextTokenizer) -> dict[str, list[int]]:
    return {task.written(answer).content: ids for answer, ids in answer_tokens(task, template, tokenizer).items()}


def asking_in(merged: Path, bundle: Bundle) -> Asking:
    """How to ask the model of a folder that `complete` completed, going by the folder's files.

    Args:
        bundle: the bundle beside it.
    """
    settings = read_json(merged / "generation_config.json")
    return Asking(
        bundle.task,
        (merged / SYSTEM_PROMPT).read_text("utf-8"),
        (merged / "chat_template.jinja").read_text("utf-8"),
        settings["eos_token_id"][0],
        settings["max_new_tokens"],
        bundle.info.context,
        _choices(bundle.task, bundle.template, bundle.tokenizer),
    )


def complete(folder: Path, spec: Spec, base: LocalModel, asking: Asking) -> None:
    """Write everything that other engines read beside the weights of `folder`: tokenizer, `tokenizer_config.json`,
    `chat_template.jinja`, `generation_config.json`, the system prompt and a model card.

    The base's sampling settings are left out, because the job has one right answer.
    """
    for name in _OF_TOKENIZER:
        if (base.folder / name).is_file() and not (folder / name).exists():
            shutil.copy(base.folder / name, folder / name)
    _write(folder / "chat_template.jinja", asking.template)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(base.folder, asking))
    write_json(folder / "generation_config.json", _generation_config(base.folder, asking))
    _write(folder / SYSTEM_PROMPT, asking.system)
    if asking.choices:
        write_json(folder / CHOICES, asking.confined)
    _write(folder / "README.md", card(spec, asking, "merged"))


def card(spec: Spec, asking: Asking, form: str, files: Mapping[str, str] | None = None) -> str:
    """A model card with the hub's front matter: what the model is for and how to ask it. It has no row of the data.

    Args:
        form: "merged", "adapter" or "gguf".
        files: for GGUF, a description of each file by name.
    """
    context = {
        "spec": spec,
        "asking": asking,
        "form": form,
        "files": files or {},
        "front": _front(spec, form),
        "base": published_name(spec.model, spec.folder),
        "system_file": SYSTEM_PROMPT,
        "choices_file": CHOICES,
        "grammar_file": GRAMMAR,
        "confined_only": confined_only(spec),
        "max_lora_rank": max_lora_rank(spec.train.lora.r * spec.train.num_seeds),
    }
    return render("tunewright.exporters", "card.md.jinja", context)


def confined_only(spec: Spec) -> bool:
    """Whether a model answers only where its choice is confined: it has learnt to decide between labels, but not that
    there are only labels."""
    return spec.task.kind == "classify" and spec.train.loss == "labels"


def bundle_card(bundle: Path, info: BundleInfo) -> str:
    """A bundle's own card with the hub's front matter."""
    entry = catalogue().get(info.base_model)
    written = {"extract": "token-classification", "generate": "text-generation", "tools": "text-generation"}
    task = written.get(info.task.kind, "text-classification")
    front = _front_matter(
        entry.hub if entry else info.base_model,
        entry,
        library_name="tunewright",
        pipeline_tag=task,
        base_model_relation="finetune",
        tags=["tunewright", info.task.kind],
    )
    return f"---\n{front}\n---\n\n{(bundle / 'README.md').read_text('utf-8')}"


def _front(spec: Spec, form: str) -> str:
    library = {"merged": "transformers", "adapter": "peft", "gguf": "gguf"}[form]
    relation = {"merged": "finetune", "adapter": "adapter", "gguf": "quantized"}[form]
    return _front_matter(
        published_name(spec.model, spec.folder),
        catalogue().get(spec.model),
        base_model_relation=relation,
        library_name=library,
        pipeline_tag="text-generation",
        tags=["tunewright", spec.train.method, spec.task.kind],
    )


def _front_matter(base: str, entry: CatalogueEntry | None, *, base_model_relation: str, **more: Any) -> str:
    """The metadata of a card that the hub reads.

    Args:
        base: the base model's name; it is included only if it is a hub id.
        entry: the base's entry in the catalogue.
    """
    from huggingface_hub import ModelCardData

    known = base if base.count("/") == 1 and not base.startswith("/") else None
    licence = LICENCES.get(entry.licence, "other") if entry else "other"
    relation = base_model_relation if known else None
    return str(ModelCardData(base_model=known, base_model_relation=relation, license=licence, **more).to_yaml())


def _tokenizer_config(base: Path, asking: Asking) -> dict[str, Any]:
    """The base's settings with our template, and with a class that reads tokenizer.json as it is. A model's own class
    builds the pre-tokenizer from its code (transformers 5), which may then split numbers differently."""
    known = read_json(base / "tokenizer_config.json")
    kept = {key: value for key, value in known.items() if key not in ("auto_map", "is_local", "local_files_only")}
    return kept | {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": asking.template}


def _generation_config(base: Path, asking: Asking) -> dict[str, Any]:
    """A generation config for greedy answers that end with the turn. `temperature` is for vLLM, which takes its
    defaults from this file and does not know `do_sample` (vllm-project/vllm#11164, checked 2026-11-27)."""
    known = read_json(base / "config.json") | read_json(base / "generation_config.json")
    ends = known.get("eos_token_id")
    others = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return {
        "eos_token_id": list(dict.fromkeys([asking.end, *others])),
        **{key: known[key] for key in ("bos_token_id", "pad_token_id") if known.get(key) is not None},
        "do_sample": False,
        "temperature": 0.0,
        "max_new_tokens": asking.most,
    }


def _write(file: Path, text: str) -> None:
    """Write a new file, because the old one may be a link to a bundle's."""
    file.unlink(missing_ok=True)
    file.write_text(text, "utf-8")


def special_tokens(folder: Path) -> dict[str, str]:
    """The tokens that a tokenizer knows by name, such as `bos_token`."""
    settings = read_json(folder / "tokenizer_config.json")
    tokens = {key: settings.get(f"{key}_token") for key in ("bos", "eos", "unk", "pad")}
    return {
        f"{key}_token": str(each["content"] if isinstance(each, dict) else each) for key, each in tokens.items() if each
    }


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file; an empty one where there is no file."""
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}
