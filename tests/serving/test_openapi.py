"""The server against its own OpenAPI document: whatever a request holds, the answer is one the document knows.

The engine is a stand-in that answers with what it was asked; the requests are schemathesis' own, wrong ones among them.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.serving.test_app import Echo
from tunewright.serving.app import build_app
from tunewright.serving.hosts import OneModel

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("route", ["classify", "extract", "generate"])
def test_every_answer_is_one_that_the_document_knows(route: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(OneModel(Echo(route))))
    statuses: set[int] = set()
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 7
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def ask(case: Case) -> None:
            reply: Any = case.call()
            statuses.add(reply.status_code)
            case.validate_response(
                reply, checks=[not_a_server_error, status_code_conformance, response_schema_conformance]
            )

        ask()
    assert 200 in statuses if mode is GenerationMode.POSITIVE else statuses <= {200, 400, 404}
