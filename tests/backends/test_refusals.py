"""The message about a refusal of Azure depends on its code, not only on its status."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError

from tunewright.backends.azure.refusals import azure_errors
from tunewright.core.errors import UserError

POLICY = "Resource 'cpu' was disallowed by policy. Policy identifiers: 'no-public'."


@pytest.mark.parametrize(
    ("status", "code", "said", "fix"),
    [
        (403, "AuthorizationFailed", "The client does not have authorization.", "A role is missing"),
        (403, "RequestDisallowedByPolicy", POLICY, "A policy of your company denies it, whatever your roles are"),
        (409, "ScopeLocked", "The scope is locked.", "az lock list --resource-group GROUP"),
    ],
)
def test_each_refusal_has_its_own_remedy(status: int, code: str, said: str, fix: str) -> None:
    with pytest.raises(UserError) as caught, azure_errors("the cluster cpu"):
        error = HttpResponseError(message=said)
        error.status_code = status
        error.error = type("Body", (), {"code": code, "details": []})()
        raise error
    assert fix in caught.value.paragraph()
    assert code in caught.value.paragraph()
