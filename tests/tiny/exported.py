"""What tests of exported models on tiny weights share: a model of each architecture, completed as an export's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import make_spec
from tests.tiny.conftest import write_tiny_model
from tunewright.export.elsewhere import Asking, asking_of, complete
from tunewright.models.resolve import LocalModel, resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Message

TEXTS = ("hello there", "Where is 12?", "\nOn a line of its own ", " \t ", "“é” 🦙 <|imend|>")
MOST = 12


@dataclass(frozen=True)
class Exported:
    merged: Path
    base: LocalModel
    asking: Asking

    def messages(self, text: str) -> list[Message]:
        return self.asking.task.prompt(text)

    def ids(self, text: str) -> list[int]:
        """The prompt as it is served."""
        return self.base.template.encode_prompt(self.messages(text), TextTokenizer(self.base.folder))

    def answer(self, model: Any, text: str) -> list[int]:
        """What torch writes behind the prompt, greedily, its last token that of the turn's end unless it is long."""
        import torch

        ids = self.ids(text)
        written: list[int] = []
        with torch.inference_mode():
            while len(written) < MOST and self.asking.end not in written:
                written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
        return written


def exported(family: str, folder: Path, architecture: tuple[str, dict] | None = None) -> Exported:
    """A two-layer random model, with all that other engines read.

    Args:
        family: of the template.
        architecture: as of `write_tiny_model`.
    """
    base, merged = folder / "base", folder / "merged"
    # Engines that know only tokenizers with merges get one, of two letters that no text has.
    write_tiny_model(family, base, [("Ā", "ā")], architecture)
    merged.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(base / name, merged / name)
    spec = make_spec(
        folder, name="tiny", model=str(base), task={"kind": "generate", "instruction": "Say it.", "max_tokens": MOST}
    )
    found = resolve(spec.model, spec.folder)
    asking = asking_of(spec, found, MOST)
    complete(merged, spec, found, asking)
    return Exported(merged, found, asking)


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in messages]
