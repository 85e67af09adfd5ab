"""The sign-in of a trial: one token for many requests, and what becomes of requests without one."""

from __future__ import annotations

import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from tunewright.core.errors import UserError
from tunewright.deploy.apps import _tenant_of
from tunewright.deploy.held_token import HeldToken
from tunewright.deploy.trial import Exam, TrialQuestion, _load

Token = namedtuple("Token", "token expires_on")


class SignIn:
    """A credential as `az login` gives it: each token is a new one."""

    def __init__(self, seconds: float):
        self._seconds, self.asked = seconds, 0

    def get_token(self, *scopes: str, **_: Any) -> Token:
        self.asked += 1
        return Token(f"{scopes[0]} {self.asked}", time.time() + self._seconds)


class Ended:
    def get_token(self, *_: str, **__: Any) -> Token:
        raise ClientAuthenticationError("AADSTS700082: The refresh token has expired due to inactivity.")


def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    long, short = SignIn(3600), SignIn(60)
    token, soon_over = HeldToken(long, "scope"), HeldToken(short, "scope")
    assert {token() for _ in range(5)} == {"scope 1"}
    assert [soon_over() for _ in range(2)] == ["scope 1", "scope 2"]


def test_a_sign_in_that_has_ended_is_one_paragraph() -> None:
    with pytest.raises(UserError, match="az login"):
        HeldToken(Ended(), "scope")()


def test_requests_of_the_load_test_that_raise_have_failed() -> None:
    asked = 0

    def ask(_: TrialQuestion) -> str:
        nonlocal asked
        asked += 1
        if asked % 3 == 0:
            raise ClientAuthenticationError("no token")
        return "yes"

    question = TrialQuestion([{"role": "user", "content": "?"}], "yes")
    exam = Exam(model="m", questions=[question], count=30, rate=1000.0, seed=0, wake_seconds=1.0)
    latencies, failed = _load(ask, exam)
    assert (len(latencies), failed) == (20, 10)


def test_a_provider_without_a_tenant_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    assert _tenant_of("https://login.microsoftonline.com/contoso/v2.0", tmp_path) == "contoso"
    with pytest.raises(UserError, match=r"this provider is https://idp\.example\.com"):
        _tenant_of("https://idp.example.com", tmp_path)
