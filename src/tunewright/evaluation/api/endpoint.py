"""An OpenAI-compatible endpoint, asked through the official client."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Event
from typing import Any

from tunewright.core.errors import UserError
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.budget import Budget, BudgetReachedError
from tunewright.evaluation.api.pace import Pace, wait_asked_for
from tunewright.evaluation.api.paid import Paid, PaidAnswers
from tunewright.evaluation.api.protocols import CHAT, ROOM_NAMES, MalformedError, asked_by

ENTRA = "entra"
"""In place of the variable of a key: sign in through Entra ID."""

_AT_ONCE = 16
_RETRIES = 6
"""Of a request that is refused for now; the client waits as long as the endpoint asks, or longer each time."""
_READINGS = 3
"""Times that a request is sent whose answer breaks off or is no chat completion; each counts against the budget."""
_SECONDS = 120.0
ROOM, WIDE_ROOM = 4_000, 32_000
"""Tokens that an answer may have, those it is thought with among them, and that one may have which these cut."""
_TEMPERATURE = "temperature"
"""Models that think before they answer take none."""
_EFFORT = "reasoning_effort"
_SCOPE = "https://cognitiveservices.azure.com/.default"

Chat = Sequence[dict[str, str]]
"""Messages of a conversation, with role and content."""


@dataclass(frozen=True)
class Question:
    """A conversation that an endpoint is to go on with."""

    messages: Chat
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other arguments of the request."""
    most: int = 0
    """Tokens that the answer may have, where there is a budget."""

    @property
    def wider(self) -> Question:
        """The same with more room for its answer."""
        return replace(self, options={**self.options, ROOM_NAMES[0]: WIDE_ROOM}, most=WIDE_ROOM)

    def at_effort(self, effort: str) -> Question:
        """The same at another reasoning effort."""
        return replace(self, options={**self.options, _EFFORT: effort})

    @cached_property
    def sent(self) -> str:
        """All that is sent, as text."""
        return json.dumps([list(self.messages), dict(self.options)], ensure_ascii=False)

    @property
    def size(self) -> int:
        """Bytes of all that is sent."""
        return len(self.sent.encode())


class Endpoint:
    """One model behind an endpoint.

    Args:
        model: its name there.
        key: the environment variable that holds the key; none where no key is needed; ENTRA to sign in.
        section: the part of the spec that says all this, for error messages.
        protocol: which of OpenAI's APIs it speaks.

    Raises:
        UserError: the key is not there.
    """

    def __init__(self, url: str, model: str, key: str | None, section: str, protocol: str = CHAT):
        from openai import DefaultHttpxClient, OpenAI

        self._url, self._model, self._section, self._protocol = url, model, section, protocol
        self._pace = Pace(_AT_ONCE)
        self._refused: set[str] = set()  # arguments that this model does not take
        self._room_name = ROOM_NAMES[0]
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._pace.before], "response": [self._pace.after]}
        self._client = OpenAI(
            base_url=url,
            api_key=self._credential(key),
            max_retries=_RETRIES,
            timeout=_SECONDS,
            http_client=DefaultHttpxClient(event_hooks=hooks),
        )

    def _credential(self, key: str | None) -> str | Callable[[], str]:
        if key is None:
            return "none"
        if key == ENTRA:
            from azure.identity import DefaultAzureCredential, get_bearer_token_provider

            signed_in: Callable[[], str] = get_bearer_token_provider(DefaultAzureCredential(), _SCOPE)
            return signed_in
        if found := os.environ.get(key):
            return found
        raise UserError(
            f"The key for {self._url} is not set.",
            where=f"environment variable {key}",
            fix=f"Type: export {key}=…  (in the spec, under {self._section}: `key: null` where none is needed, "
            f"`key: {ENTRA}` for Azure with Entra ID, or the name of another variable)",
        )

    def ask_all(
        self, questions: Sequence[Question], paid: PaidAnswers, budget: Budget | None = None
    ) -> Iterator[tuple[int, Paid]]:
        """The answer to each question, by its place, as they come in; those that were paid for before come first.

        Raises:
            UserError: the endpoint refuses, or can't be reached, or the budget is reached. What came in is kept.
        """
        budget = budget or _unlimited()
        left: list[list[int]] = []
        for same in alike(questions):
            question = questions[same[0]]
            known = paid.get(self._asked(question))
            if not known:
                left.append(same)
                continue
            budget.count(question.size, question.most, known)
            for place in same:
                yield place, known
        stop = Event()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            pending = {pool.submit(self._ask, questions[same[0]], budget, stop): same for same in left}
            kept: set[Future[Paid]] = set()
            try:
                for done in as_completed(pending):
                    if isinstance(done.exception(), CancelledError):
                        continue  # of the failure that ended it
                    answer = done.result()
                    paid.put(self._asked(questions[pending[done][0]]), answer)
                    kept.add(done)
                    for place in pending[done]:
                        yield place, answer
            except BudgetReachedError:
                raise self._no_budget(len(questions)) from None
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                for future in pending.keys() - kept:  # what was under way is paid too
                    if not future.cancelled() and not future.exception():
                        paid.put(self._asked(questions[pending[future][0]]), future.result())

    def _asked(self, question: Question) -> list[Any]:
        return asked_of(self._url, self._model, question, self._protocol)

    def _ask(self, question: Question, budget: Budget, stop: Event) -> Paid:
        """Raises:
        CancelledError: nobody waits for the answer any more.
        """
        with self._pace.turn():
            for _ in range(_READINGS):
                reserved = budget.reserve(question.size, question.most)
                try:
                    if stop.is_set():
                        raise CancelledError
                    answer = self._answered(question)
                except MalformedError as error:
                    budget.lose(reserved)
                    broken = error
                except BaseException:
                    stop.set()  # before this turn ends and another begins
                    budget.release(reserved)
                    raise
                else:
                    budget.settle(reserved, question.size, question.most, answer)
                    return answer
            stop.set()
        raise self._explained(broken.cause)

    def _answered(self, question: Question) -> Paid:
        """Raises:
        MalformedError: what came is no answer, and may be whole next time.
        UserError: the endpoint refuses, or can't be reached.
        """
        import openai

        options = {
            self._room_name if name == ROOM_NAMES[0] else name: value
            for name, value in question.options.items()
            if name not in self._refused
        }
        try:
            return asked_by(self._protocol, self._client, self._model, question.messages, options)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if error.code == "content_filter":
                return Paid("", ending="refused")
            complaint = _complaint(error)
            if complaint == _TEMPERATURE and _TEMPERATURE in options:
                self._refused.add(_TEMPERATURE)
                return self._answered(question)
            if complaint in ROOM_NAMES and question.most > ROOM:
                return Paid("", ending="cut")  # no more room than that which was too small
            if complaint == ROOM_NAMES[0] and complaint in options:
                self._room_name = ROOM_NAMES[1]
                return self._answered(question)
            raise self._explained(error) from None
        except openai.APIResponseValidationError as error:
            raise MalformedError(error) from None
        except openai.OpenAIError as error:
            raise self._explained(error) from None
        except ValueError as error:  # the client hands on that a body is no JSON
            raise MalformedError(error) from None
        except Exception as error:
            if known := self._not_signed_in(error):
                raise known from None
            raise

    def _not_signed_in(self, error: Exception) -> UserError | None:
        try:
            from azure.core.exceptions import ClientAuthenticationError
        except ImportError:
            return None
        if not isinstance(error, ClientAuthenticationError):
            return None
        return UserError(
            "Entra ID gives no token for this endpoint.",
            where=self._url,
            fix="Type: az login  (on Azure: give the machine's identity the role Cognitive Services OpenAI User)",
        )

    def _no_budget(self, count: int) -> UserError:
        return UserError(
            "The next answer could pass the budget (baseline.budget_usd).",
            where=self._url,
            why=f"Of {count:,} questions those that were answered are kept, and are not paid again.",
            fix="Allow more, or ask fewer: baseline.budget_usd=…, baseline.sample=…; then type the same command again.",
        )

    def _explained(self, error: Exception) -> UserError:
        """What to do about a refusal. Its own text is shown only where it can't hold what was sent."""
        import openai

        again, section = "What was answered is kept: type the same command again.", self._section
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                what, fix = "The endpoint does not accept this key.", "Check the key, then type the same command again."
            case openai.NotFoundError():
                what = f"The endpoint has no model '{self._model}'."
                fix = f"Check `model`, `deployment` and `url` under {section}."
            case openai.RateLimitError():
                what, fix = "The endpoint refuses more requests for now, or the account is spent.", again
                if (seconds := wait_asked_for(error.response.headers)) > 1:
                    fix = f"It asks to wait {seconds:,.0f} s. {again}"
            case openai.APITimeoutError():
                what, fix = "The endpoint does not answer in time.", again
            case openai.APIConnectionError():
                what = "The endpoint can't be reached."
                fix = f"Check `url` under {section}, and the network. {again}"
            case openai.BadRequestError() | openai.UnprocessableEntityError() if section != "judge":
                complaint = _complaint(error)
                what = f"The endpoint does not take this request (status {error.status_code}"
                what += f", {complaint})." if complaint else ")."
                fix = f"Where it takes no response_format, write `structured: false` under {section}. {again}"
                if complaint in (_EFFORT, "reasoning", "reasoning.effort"):
                    fix = f"Give it another `reasoning_effort` under {section}, or none. {again}"
            case openai.APIStatusError(status_code=status):
                what, fix = f"The endpoint answered with status {status}.", again
            case _:
                what, fix = f"The endpoint's answer can't be used ({type(error).__name__}).", again
        return UserError(what, where=self._url, fix=fix)


def _unlimited() -> Budget:
    return Budget(math.inf, ApiPrice(usd_in=0, usd_out=0))


def asked_of(url: str, model: str, question: Question, protocol: str = CHAT) -> list[Any]:
    """What an answer is kept by."""
    asked: list[Any] = [url, model, list(question.messages)]
    if question.options:
        asked.append(dict(question.options))
    return asked if protocol == CHAT else [*asked, protocol]


def alike(questions: Sequence[Question]) -> list[list[int]]:
    """The places of equal questions, which are asked once."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question.sent, []).append(place)
    return list(places.values())


def _complaint(error: Any) -> str:
    """The argument that an endpoint complains of: a word of ours, never text of what was sent."""
    named = str(error.param or "")
    if named.replace("_", "").replace(".", "").isalpha():
        return named
    ours = (*ROOM_NAMES, _TEMPERATURE, _EFFORT, "response_format")
    return next((name for name in ours if name in str(error.body)), "")
