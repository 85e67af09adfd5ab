"""All forms of logs together: the registry, and that no row is taken for another's."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.logs.reading import SAMPLES
from tunewright.config.sections import DataForm
from tunewright.data.readers import FORMS
from tunewright.data.readers.forms import form_of
from tunewright.data.readers.opening import reader_of, unpaged
from tunewright.logs import LOG_FORMS

FORMS_OF = {
    "azure_batch_errors": "openai-batch",
    "azure_batch_input": "openai-batch-input",
    "azure_batch_output": "openai-batch",
    "azure_stored_completions": "openai-stored",
    "azure_stored_messages": None,
    "openai_batch_errors": "openai-batch",
    "openai_batch_input": "openai-batch-input",
    "openai_batch_output": "openai-batch",
    "openai_responses_pairs": "pairs",
    "openai_responses_stream_events": None,
    "openai_responses": "openai-response",
    "openai_stored_completions": "openai-stored",
    "openai_stored_messages": "openai-stored-messages",
    "phoenix_otlpv1": "otlp",
}
"""The form of samples whose names do not begin with it; None: of several, or none."""


def test_a_spec_may_name_every_form() -> None:
    assert set(get_args(DataForm)) == {*FORMS, *LOG_FORMS}


@pytest.mark.parametrize("name", sorted(file.name for file in SAMPLES.iterdir()))
def test_every_row_of_every_sample_has_its_own_form(name: str) -> None:
    named = (form for beginning, form in FORMS_OF.items() if name.startswith(beginning))
    expected = next(named, name.partition("_")[0].partition(".")[0])
    reader = reader_of(SAMPLES / name)
    assert callable(reader)
    rows = [item[1] for item in unpaged(reader(SAMPLES / name)) if isinstance(item, tuple)]
    assert rows
    if expected:
        assert {form_of(row) for row in rows} == {expected}
