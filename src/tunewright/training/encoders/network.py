"""An encoder with a head that chooses a label, in torch, and the folder that it is saved in.

A text's tokens become one vector of length one. The head compares it with a vector of each label and scales the
cosines. So a label's initial vector can be the centre of its texts, and training starts from a model that knows
something (Snell et al. 2017, prototypical networks; Chen et al. 2019, cosine classifiers).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from tunewright.inference.runtimes.beside import Beside
from tunewright.models.catalogue import Pooling
from tunewright.models.encoders import POOLING, LocalEncoder, read_encoder, write_pooling
from tunewright.models.files import loading
from tunewright.tasks.spans.habits import NONE_KNOWN, Habits

SCALE = 12.0
"""Factor that sharpens the cosines."""
HEAD, ABOUT = "head.safetensors", "head.json"
_DROPOUT_IN_ATTENTION = ("attention_probs_dropout_prob", "attention_dropout")
"""Architectures' names of dropout in attention, which is turned off: dropout between layers is enough, and torch's
fast attention on a CPU has no dropout."""
_TOKENIZER = "tokenizer.json"
_COPIED = (_TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")


class Network(nn.Module):  # type: ignore[misc, unused-ignore]
    """Maps token ids [texts, tokens] to logits [texts, labels] in float32; with a head that reads tokens, to [texts,
    tokens, labels].

    Args:
        body: transformers' model.
        half: whether the body computes products in bfloat16.
        per_token: whether the head reads each token's unnormalised vector instead of the text's.
    """

    def __init__(self, body: Any, base: LocalEncoder, labels: Sequence[str], *, half: bool, per_token: bool = False):
        super().__init__()
        self.body, self.labels, self.per_token = body, list(labels), per_token
        self._base, self._half = base, half
        self.head = nn.Linear(body.config.hidden_size, len(labels))
        nn.init.zeros_(self.head.bias)
        self._vocabulary: EncoderVocabulary | None = None
        self.beside: Beside | None = None
        """A linear model whose logits are added to answers, not in training."""
        self.habits = NONE_KNOWN
        """What training's records have in common, if the head reads tokens."""
        self._all_tokens: Any = None
        """The original embeddings of all tokens, if `narrow` left some out."""

    @classmethod
    def of(cls, base: LocalEncoder, labels: Sequence[str], *, half: bool, per_token: bool = False) -> Self:
        """A base with an untrained head."""
        from transformers import AutoConfig, AutoModel

        with loading(base.folder):
            config = AutoConfig.from_pretrained(base.folder, local_files_only=True)
            for name in _DROPOUT_IN_ATTENTION:
                if hasattr(config, name):
                    setattr(config, name, 0.0)
            body = AutoModel.from_pretrained(base.folder, local_files_only=True, dtype=torch.float32, config=config)
        without_pooler(body)
        return cls(body, base, labels, half=half, per_token=per_token)

    @classmethod
    def load(cls, folder: Path, *, half: bool = False) -> Self:
        """Load what `save_pretrained` wrote, in evaluation mode."""
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        network = cls.of(
            read_encoder(about["base"], folder), about["labels"], half=half, per_token=about.get("per_token", False)
        )
        network.head.load_state_dict(load_file(folder / HEAD))
        network.beside, network.habits = Beside.load(folder, folder), cls.habits_in(folder)
        network.eval()
        return network

    @staticmethod
    def labels_in(folder: Path) -> list[str]:
        """The labels that a saved network's logits stand for."""
        return list(json.loads((folder / ABOUT).read_text("utf-8"))["labels"])

    @staticmethod
    def habits_in(folder: Path) -> Habits:
        """The habits of a saved network's records; of one that was saved before there were any, none are known."""
        return Habits.model_validate(json.loads((folder / ABOUT).read_text("utf-8")).get("habits", {}))

    @property
    def device(self) -> Any:
        return self.head.weight.device

    @property
    def padding(self) -> int:
        """The token that pads rows."""
        number = int(self.body.config.pad_token_id or 0)
        return self._vocabulary.place[number] if self._vocabulary else number

    @property
    def pooling(self) -> Pooling:
        return self._base.pooling

    def hidden(self, input_ids: Any, attention_mask: Any = None) -> Any:
        """The tokens' vectors [texts, tokens, width], in float32.

        Args:
            attention_mask: 1 for a token, 0 for padding; None: all rows have the same length.
        """
        autocast = torch.autocast(input_ids.device.type, torch.bfloat16) if self._half else nullcontext()
        with autocast:
            return self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()

    def embed(self, input_ids: Any, attention_mask: Any = None) -> Any:
        """The texts' vectors [texts, width], of length one; arguments as for `hidden`."""
        hidden = self.hidden(input_ids, attention_mask)
        if self._base.pooling == "cls":
            return F.normalize(hidden[:, 0], dim=-1)
        if attention_mask is None:
            return F.normalize(hidden.mean(1), dim=-1)  # a sum would do: only the direction counts
        return F.normalize((hidden * attention_mask[..., None].to(hidden.dtype)).sum(1), dim=-1)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        if self.per_token:
            return self.head(self.hidden(input_ids, attention_mask))
        weight = F.normalize(self.head.weight, dim=-1)
        return SCALE * F.linear(self.embed(input_ids, attention_mask), weight, self.head.bias)

    def narrow(self, vocabulary: EncoderVocabulary) -> None:
        """Keep the embeddings of some tokens only: the others get no gradient, so an optimizer would work on them in
        vain. Ids are then places in `vocabulary`, until the folder is written."""
        embedding = self.body.get_input_embeddings()
        padding = embedding.padding_idx
        narrow = nn.Embedding(
            len(vocabulary.ids),
            embedding.embedding_dim,
            padding_idx=None if padding is None else vocabulary.place[padding],
            device=embedding.weight.device,
        )
        self._all_tokens = embedding.weight.detach().cpu()
        narrow.weight.data.copy_(self._all_tokens[torch.tensor(vocabulary.ids)])
        self.body.set_input_embeddings(narrow)
        self._vocabulary = vocabulary

    def placed(self, ids: Sequence[int]) -> list[int]:
        """Token ids as this network takes them."""
        return [self._vocabulary.place[token] for token in ids] if self._vocabulary else list(ids)

    def save_pretrained(self, folder: str | Path, state_dict: Any = None, **_: Any) -> None:
        """Write a folder with the encoder in transformers' format, with all tokens, its tokenizer, and the head.

        Args:
            state_dict: the weights, if they are not in this module.
        """
        target, state = Path(folder), state_dict or self.state_dict()
        target.mkdir(parents=True, exist_ok=True)
        body = {name.removeprefix("body."): value for name, value in state.items() if name.startswith("body.")}
        if self._vocabulary:
            embedding = self.body.get_input_embeddings().weight
            name = next(name for name, value in self.body.named_parameters() if value is embedding)
            known = torch.tensor(self._vocabulary.ids)
            body[name] = self._all_tokens.index_copy(0, known, body[name].detach().cpu())
        self.body.config.save_pretrained(target)
        save_file(
            {n: value.detach().cpu().contiguous() for n, value in body.items()},
            target / "model.safetensors",
            metadata={"format": "pt"},
        )
        save_file({n: state[f"head.{n}"].detach().cpu().contiguous() for n in ("weight", "bias")}, target / HEAD)
        copy_beside(self._base, target)
        about = {
            "base": self._base.name,
            "labels": self.labels,
            "scale": SCALE,
            "per_token": self.per_token,
            "habits": self.habits.model_dump(),
        }
        (target / ABOUT).write_text(json.dumps(about, ensure_ascii=False), "utf-8")


class EncoderVocabulary:
    """The tokens that occur in some texts, each with its place.

    Args:
        padding: the token that pads rows. It keeps its number if possible, because some encoders count positions by it.
    """

    def __init__(self, texts: Sequence[Sequence[int]], padding: int):
        ids = sorted({token for text in texts for token in text} - {padding})
        ids.insert(min(padding, len(ids)), padding)
        self.ids = ids
        self.place = {token: place for place, token in enumerate(ids)}


def without_pooler(body: Any) -> None:
    """Remove BERT's pooler, which the logits don't use."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None


def copy_beside(base: LocalEncoder, target: Path) -> None:
    """Copy the tokenizer's files and the pooling's config. A base without one gets one, so that the target's folder
    says by itself how it pools."""
    for name in _COPIED:
        if (base.folder / name).is_file():
            shutil.copy(base.folder / name, target / name)
    if base.line_ends:
        (target / _TOKENIZER).write_text(base.tokenizer().as_json(), "utf-8")
    if (base.folder / POOLING).is_file():
        (target / POOLING).parent.mkdir(exist_ok=True)
        shutil.copy(base.folder / POOLING, target / POOLING)
    else:
        write_pooling(base.pooling, target)
