"""Projects on models of true size without weights: only their config.json."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import TOKENIZER
from tunewright.models.catalogue import catalogue
from tunewright.models.sizes import Sizes


def model_folder(name: str, folder: Path) -> Path:
    """A folder with a catalogue model's config and some tokenizer."""
    shape = catalogue()[name].shape
    assert shape
    folder.mkdir(parents=True, exist_ok=True)
    shape.config().save_pretrained(folder)
    (folder / "tokenizer.json").write_text((TOKENIZER / "tokenizer.json").read_text("utf-8"), "utf-8")
    return folder


def sizes(name: str) -> Sizes:
    shape = catalogue()[name].shape
    assert shape
    return Sizes.of(shape)
