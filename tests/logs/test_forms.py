"""All forms of logs together: the registry, and that no row is taken for another's."""

from __future__ import annotations

from typing import get_args

from tunewright.config.sections import DataForm
from tunewright.data.readers import FORMS
from tunewright.logs import LOG_FORMS


def test_a_spec_may_name_every_form() -> None:
    assert set(get_args(DataForm)) == {*FORMS, *LOG_FORMS}
