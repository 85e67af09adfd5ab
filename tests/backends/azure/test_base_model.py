"""This machine uploads the base model, so a node needs neither a network nor a token for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.backends.azure.conftest import MakeJob, puts
from tests.models.test_adopt import HUB, model
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.core.errors import UserError
from tunewright.models.resolve import adopt


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's cache of the hub, with one model in it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    adopt(HUB, model(tmp_path / "brought"))
    return tmp_path / "hub"


def test_a_named_model_travels_and_is_found_on_the_node(azure: AzureEmulator, job: MakeJob) -> None:
    """The step check reads its tokenizer. The node's own cache is empty, and it can't reach the hub."""
    spec = job(model=HUB)
    api.check(spec, on="azure")
    assert puts(azure, "/data/tunewright-base-somebody-tiny/versions/")
    assert azure.proxy.refused == []
    found = json.loads((api.check(spec, on="azure") / "findings.json").read_text("utf-8"))
    assert "could not be fetched" not in json.dumps(found)


def test_a_model_that_can_not_be_had_here_ends_it_before_anything_is_made(azure: AzureEmulator, job: MakeJob) -> None:
    """Like a gated model without a token: the hub refuses it, in any way."""
    before = len(azure.cloud.calls)
    with pytest.raises(UserError, match="could not be fetched") as told:
        api.check(job(model="somebody/gated"), on="azure")
    assert "HF_TOKEN" in str(told.value.fix) and "give the folder as `model:`" in str(told.value.fix)
    assert puts(azure, since=before) == []
    assert not [name for name in azure.runner.jobs if "gated" in name]
