from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from tunewright.config.schema import Spec
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.chat import ChatTemplate


def test_every_decoder_has_a_template_that_ships_and_no_encoder_has_one() -> None:
    for entry in catalogue().values():
        assert bool(entry.template) == (entry.kind == "decoder")
        assert not entry.template or ChatTemplate.named(entry.template)


def test_every_encoder_has_a_pooling_and_no_decoder_has_one() -> None:
    for entry in catalogue().values():
        assert (entry.pooling is not None) == (entry.kind == "encoder")
    assert {name for name, entry in catalogue().items() if entry.pooling == "cls"} == {"bge-small", "bge-base"}


def test_every_hub_id_has_an_owner_and_a_name() -> None:
    assert [e.hub for e in catalogue().values() if not re.fullmatch(r"[\w.-]+/[\w.-]+", e.hub)] == []


def test_the_default_model_needs_no_hub() -> None:
    entry = catalogue()[Spec.model_fields["model"].default]
    assert entry.wheel
    assert re.fullmatch("[0-9a-f]{64}", entry.wheel.sha256)


def test_the_named_families_are_there() -> None:
    expected = {"phi-3-mini", "phi-3-medium", "phi-4-mini", "mistral-7b", "llama-3-8b", "llama-3.2-1b", "qwen2.5-0.5b"}
    assert expected <= set(catalogue())


def test_phi_3_small_is_known_to_need_remote_code() -> None:
    assert [name for name, entry in catalogue().items() if entry.remote_code] == ["phi-3-small"]


def test_a_misspelt_key_in_an_entry_is_refused() -> None:
    entry = catalogue()["qwen3-0.6b"].model_dump() | {"licence_url": "x"}
    with pytest.raises(ValidationError, match="licence_url"):
        CatalogueEntry.model_validate(entry)
