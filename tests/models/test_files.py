"""A model's folder holds files of its own, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TOKENIZER
from tests.models.test_whole import made
from tunewright.core.errors import UserError
from tunewright.models.files import loading, read_object, require_own_files
from tunewright.models.resolve import folder_of, resolve_tokenizer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    made(folder, model_type="llama")
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    (tmp_path / "secret").write_text("of the user")
    return folder


def replaced(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a named pipe as config": (lambda m: replaced(m / "config.json", os.mkfifo), r"config\.json: .*not a plain file"),
    "a device as tokenizer": (
        lambda m: replaced(m / "tokenizer.json", lambda file: file.symlink_to("/dev/zero")),
        "not a plain file",
    ),
    "a device as weights": (lambda m: (m / "more.safetensors").symlink_to("/dev/zero"), "not a plain file"),
    "a link out": (lambda m: (m / "tokenizer.model").symlink_to("../secret"), r"tokenizer\.model: .*link out"),
    "a folder that is a link out": (lambda m: (m / "1_Pooling").symlink_to(m.parent), "link out"),
    "a link to nowhere": (lambda m: (m / "vocab.txt").symlink_to("nothing"), "can't be reached"),
    "a link to itself": (lambda m: (m / "vocab.txt").symlink_to("vocab.txt"), "can't be reached"),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_a_file_that_is_not_the_models_is_refused(strange: str, model: Path) -> None:
    make, said = STRANGE[strange]
    make(model)
    for find in (folder_of, resolve_tokenizer):
        with pytest.raises(UserError, match=said):
            find(str(model), model.parent)


def test_links_within_the_folder_and_those_to_weights_are_the_models_own(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.model").symlink_to("tokenizer.json")
    (model / "model.safetensors").rename(tmp_path / "large.safetensors")
    (model / "model.safetensors").symlink_to(tmp_path / "large.safetensors")
    assert folder_of(str(model), tmp_path) == model


def test_the_hubs_cache_holds_links(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "models--owner--name"
    (home / "blobs").mkdir(parents=True)
    (home / "snapshots" / "c0ffee").mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        file.rename(home / "blobs" / str(number))
        (home / "snapshots" / "c0ffee" / file.name).symlink_to(Path("../../blobs") / str(number))
    require_own_files(home / "snapshots" / "c0ffee")
    (home / "snapshots" / "c0ffee" / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="link out"):
        require_own_files(home / "snapshots" / "c0ffee")


def test_a_huge_file_is_not_read_as_json(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as stream:
        stream.truncate(1 << 40)  # it takes no room
    with pytest.raises(UserError, match="can't be read: it has 1,099,511,627,776 bytes"):
        read_object(tmp_path / "config.json")


def test_an_error_of_a_library_becomes_one_paragraph(tmp_path: Path) -> None:
    class PanicException(BaseException):
        """As pyo3's."""

    for error in (RuntimeError("first\nsecond"), PanicException("deep down"), AssertionError()):
        with pytest.raises(UserError, match=r"The model can't be loaded\. \w+: ") as told, loading(tmp_path):
            raise error
        assert "\n" not in told.value.paragraph()
    for passing in (KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(passing)), loading(tmp_path):
            raise passing
