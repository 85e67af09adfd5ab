"""What all routes share: the models, the recorder, the metrics, and the checks of a request against them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from starlette.requests import Request

from tunewright.auth.keys import Principal
from tunewright.serving.engine import Engine
from tunewright.serving.errors import ApiError
from tunewright.serving.guard import PRINCIPAL
from tunewright.serving.hosts import Host, UnknownModel, ask_host
from tunewright.serving.metrics import Metrics
from tunewright.serving.recorder import RecordedQuestion, Recorder

_Answer = TypeVar("_Answer")
_NAMED = 20
"""Models that an error names at most."""


@dataclass(frozen=True)
class ServerState:
    """One server's part in every request; `build_app` keeps it in `app.state.server`."""

    models: Host
    recorder: Recorder
    metrics: Metrics
    any_system_prompt: bool = False
    """Whether clients may send system prompts that a bundle does not know; they are left out."""
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix time of the server's start; `/v1/models` gives it as each model's."""

    def require_model(self) -> None:
        """Raises:
        ApiError: the model's process has ended.
        """
        if self.models.ended:
            raise ApiError(503, "The model has ended.", "model_ended")

    def engine(self, principal: Principal | None, name: str | None, kind: str | None = None) -> tuple[str, Engine]:
        """(the name of a model, its engine).

        Args:
            principal: the client; None: the server has no keys.
            name: None: the only model.
            kind: the plain route that must fit the model's job; None: any model does.

        Raises:
            ApiError: the principal may not use the model, there is no such model, or its job is another one.
        """
        known = self._only(principal) if name is None else name
        if not _may_use(principal, known):
            raise ApiError(403, f"This key may not use the model '{known}'.", "model_not_allowed", "model")
        try:
            engine = self.models.engine(name)  # not `known`: a new bundle may just have renamed the only model
        except UnknownModel:
            raise self._not_found(principal, name) from None
        if kind and engine.route != kind:
            raise ApiError(404, f"This model's job is to {engine.route}: POST to /v1/{engine.route}.", "wrong_route")
        return known, engine

    def _only(self, principal: Principal | None) -> str:
        """The name of the only model.

        Raises:
            ApiError: there are several.
        """
        names = self.models.names()
        if len(names) != 1:
            raise self._not_found(principal, None)
        return names[0]

    def names(self, principal: Principal | None) -> Sequence[str]:
        """The models that a client may use."""
        return [name for name in self.models.names() if _may_use(principal, name)]

    def require_name(self, principal: Principal | None, name: str) -> None:
        """Raises:
        ApiError: the client may use no model of this name.
        """
        if name not in self.names(principal):
            raise self._not_found(principal, name)

    def _not_found(self, principal: Principal | None, name: str | None) -> ApiError:
        names = ", ".join(self.names(principal)[:_NAMED])
        reason = f"The model '{name}' does not exist" if name is not None else "This request needs the field model"
        return ApiError(404, f"{reason}; this server has {names}.", "model_not_found", "model")

    def answer(self, question: RecordedQuestion, ask: Callable[[Engine], _Answer]) -> tuple[RecordedQuestion, _Answer]:
        """An answer, and the question with the engine that gave it.

        The challenger on trial answers its share of the questions. Where it fails, the champion answers instead.

        Args:
            ask: gets the answer from an engine.
        """
        engine, answer, failed = ask_host(self.models, question.engine, question.prompt, ask)
        if failed:
            self.metrics.challenger_failed(failed.version)
        return replace(question, engine=engine), answer


def _may_use(principal: Principal | None, model: str) -> bool:
    return principal is None or principal.may_use(model)


def served_by(http: Request) -> ServerState:
    """The state of the server that a request came to."""
    state: ServerState = http.app.state.server
    return state


def client_of(http: Request) -> Principal | None:
    """The client that `CheckPrincipal` let in; None: the server has no keys."""
    principal: Principal | None = http.scope.get(PRINCIPAL)
    return principal


def name_of(principal: Principal | None) -> str | None:
    return principal.name if principal else None
