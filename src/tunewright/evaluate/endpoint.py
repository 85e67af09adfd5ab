"""An OpenAI-compatible endpoint, asked through the official client."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import Any

from tunewright.assess.prices import ApiPrice
from tunewright.errors import UserError
from tunewright.evaluate.budget import Budget, BudgetReachedError
from tunewright.evaluate.pace import Pace, wait_asked_for
from tunewright.evaluate.paid import Ending, Paid, PaidAnswers

ENTRA = "entra"
"""In place of the variable of a key: sign in through Entra ID."""

_AT_ONCE = 16
_RETRIES = 6
"""Of a request that is refused for now; the client waits as long as the endpoint asks, or longer each time."""
_READINGS = 3
"""Times that a request is sent whose answer breaks off or is no chat completion; each counts against the budget."""
_SECONDS = 120.0
_TEMPERATURE = "temperature"
"""Models that think before they answer take none."""
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

    Raises:
        UserError: the key is not there.
    """

    def __init__(self, url: str, model: str, key: str | None, section: str):
        from openai import DefaultHttpxClient, OpenAI

        self._url, self._model, self._section = url, model, section
        self._pace = Pace(_AT_ONCE)
        self._refused: set[str] = set()  # arguments that this model does not take
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._pace.before], "response": [self._pace.after]}
        self._client = OpenAI(
            base_url=url, api_key=self._credential(key), max_retries=_RETRIES, timeout=_SECONDS,
            http_client=DefaultHttpxClient(event_hooks=hooks),
        )  # fmt: skip

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
            fix=f"Type: export {key}=…  (a local endpoint without keys: {self._section}.key=null; Azure with Entra ID: "
            f"{self._section}.key={ENTRA})",
        )

    def ask_all(self, questions: Sequence[Question], paid: PaidAnswers,
                budget: Budget | None = None) -> Iterator[tuple[int, Paid]]:  # fmt: skip
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
        return asked_of(self._url, self._model, question)

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

        options = {name: value for name, value in question.options.items() if name not in self._refused}
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=list(question.messages),  # type: ignore[arg-type]  # plain dicts, which the client takes
                **options,
            )
            return _paid(raw.parse(), raw.elapsed.total_seconds() * 1000)
        except openai.BadRequestError as error:
            if error.code == "content_filter":
                return Paid("", ending="refused")
            if error.param == _TEMPERATURE and _TEMPERATURE in options:
                self._refused.add(_TEMPERATURE)
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
            "Entra ID gives no token for this endpoint.", where=self._url,
            fix="Type: az login  (on Azure: give the machine's identity the role Cognitive Services OpenAI User)",
        )  # fmt: skip

    def _no_budget(self, count: int) -> UserError:
        return UserError(
            f"The next answer could pass the budget ({self._section}.budget_usd).",
            where=self._url,
            why=f"Of {count:,} questions those that were answered are kept, and are not paid again.",
            fix=f"Allow more, or ask fewer: {self._section}.budget_usd=…, {self._section}.sample=…; then type the same "
            "command again.",
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
                fix = f"Check {section}.model and {section}.url."
            case openai.RateLimitError():
                what, fix = "The endpoint refuses more requests for now, or the account is spent.", again
                if (seconds := wait_asked_for(error.response.headers)) > 1:
                    fix = f"It asks to wait {seconds:,.0f} s. {again}"
            case openai.APITimeoutError():
                what, fix = "The endpoint does not answer in time.", again
            case openai.APIConnectionError():
                what, fix = "The endpoint can't be reached.", f"Check {section}.url and the network. {again}"
            case openai.BadRequestError() if section == "api":
                what = f"The endpoint does not take this request (status 400{_named(error)})."
                fix = f"Where it takes no response_format: api.structured=false. {again}"
            case openai.APIStatusError(status_code=status):
                what, fix = f"The endpoint answered with status {status}.", again
            case _:
                what, fix = f"The endpoint's answer can't be used ({type(error).__name__}).", again
        return UserError(what, where=self._url, fix=fix)


class MalformedError(Exception):
    """What came is no chat completion."""

    def __init__(self, cause: Exception | None = None):
        self.cause = cause or self
        super().__init__("no chat completion")


def _unlimited() -> Budget:
    return Budget(math.inf, ApiPrice(usd_in=0, usd_out=0))


def asked_of(url: str, model: str, question: Question) -> list[Any]:
    """What an answer is kept by."""
    asked: list[Any] = [url, model, list(question.messages)]
    return [*asked, dict(question.options)] if question.options else asked


def alike(questions: Sequence[Question]) -> list[list[int]]:
    """The places of equal questions, which are asked once."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question.sent, []).append(place)
    return list(places.values())


def _named(error: Any) -> str:
    """The argument that an endpoint complains of: a word of ours, never text of what was sent."""
    name = str(error.param or "")
    return f", {name}" if name.replace("_", "").replace(".", "").isalpha() else ""


def _paid(reply: Any, latency_ms: float) -> Paid:
    """What counts of a chat completion.

    Raises:
        MalformedError: it is none.
    """
    choices = getattr(reply, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    text = getattr(getattr(choice, "message", None), "content", 0)
    if choice is None or not isinstance(text, str | None):
        raise MalformedError
    usage = getattr(reply, "usage", None)
    ending: Ending = "cut" if choice.finish_reason == "length" else "whole"
    if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
        ending = "refused"
    details = getattr(usage, "prompt_tokens_details", None)
    # Half of a pair of surrogates is no text that a file can hold.
    plain = (text or "").encode("utf-8", "replace").decode()
    return Paid(
        plain, getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0,
        getattr(details, "cached_tokens", 0) or 0, ending, round(latency_ms, 1),
        getattr(details, "cache_write_tokens", 0) or 0,
    )  # fmt: skip
