"""Base models of the hub, fetched by the hub's own client from a server that plays the hub."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants, hf_hub_download
from safetensors.numpy import save

from tests.conftest import TOKENIZER
from tests.exporters.hub import TOKEN, Fault, Hub, Repository, running_hub
from tests.fixtures.encoders import with_pooling
from tests.models.test_encoders import folder_of as folder_of_encoder
from tunewright.core.errors import UserError
from tunewright.models import resolve
from tunewright.models.resolve import folder_of, resolve_encoder

NAME = "mistralai/tiny"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """One with a model, beside empty caches."""
    weights = save({"some.weight": np.zeros((2, 2), np.float32)})
    with running_hub() as running:
        running.repositories[NAME] = Repository(
            private=False,
            files={
                "config.json": json.dumps({"model_type": "mistral"}).encode(),
                "tokenizer.json": (TOKENIZER / "tokenizer.json").read_bytes(),
                "model.safetensors": weights,
                "consolidated.safetensors": weights,
            },
        )
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
        yield running


def test_a_fetched_model_is_found_without_the_second_copy_of_its_weights(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = folder_of(NAME, tmp_path)
    assert {file.name for file in fetched.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    asked = len(hub.calls)
    assert folder_of(NAME, tmp_path) == fetched
    assert len(hub.calls) == asked, "a model that is here needs no network"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert folder_of(NAME, tmp_path) == fetched


def test_a_model_without_one_of_its_files_is_not_here(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].files["chat_template.jinja"] = b"{{ messages }}"
    (folder_of(NAME, tmp_path) / "chat_template.jinja").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids fetching"):
        folder_of(NAME, tmp_path)


@pytest.mark.usefixtures("hub")
def test_a_cache_that_can_t_be_written_to_is_not_said_to_be_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(UserError) as caught:
        folder_of(NAME, tmp_path)
    assert str(tmp_path / "file") in str(caught.value.where)
    assert "HF_TOKEN" not in caught.value.paragraph()


def test_a_full_disk_is_not_said_to_be_the_network(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = resolve._matching

    def full(hub_id: str, patterns: list[str], *, only_cached: bool) -> Path:
        if only_cached:
            return original(hub_id, patterns, only_cached=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resolve, "_matching", full)
    with pytest.raises(UserError, match=r"^[^:]*: The disk(, or your quota on it,)? is full"):
        folder_of(NAME, tmp_path)
    monkeypatch.setattr(resolve, "_matching", original)
    hub.repositories.clear()
    with pytest.raises(UserError, match=r"could not be fetched.*HF_TOKEN"):
        folder_of(NAME, tmp_path)


@pytest.mark.parametrize("has", [True, False])
def test_how_an_encoder_pools_is_asked_of_the_hub_once(
    has: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' `from_pretrained` fills the hub's cache file by file, without the one that says it."""
    made = with_pooling(folder_of_encoder(tmp_path / "made"), "cls")
    pooling = made / "1_Pooling" / "config.json"
    files = {file.name: file.read_bytes() for file in made.iterdir() if file.is_file()}
    extra = {"1_Pooling/config.json": pooling.read_bytes()} if has else {}
    hub.repositories["owner/encoder"] = Repository(private=False, files=files | extra)
    for file in files:
        hf_hub_download("owner/encoder", file)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_encoder("owner/encoder", tmp_path).pooling == "mean", "the hub can't be asked"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.faults.append(Fault("1_Pooling", 503))
    assert resolve_encoder("owner/encoder", tmp_path).pooling == "mean", "the hub has trouble"
    assert resolve_encoder("owner/encoder", tmp_path).pooling == ("cls" if has else "mean")
    asked = len(hub.calls)
    assert resolve_encoder("owner/encoder", tmp_path).pooling == ("cls" if has else "mean")
    assert len(hub.calls) == asked
