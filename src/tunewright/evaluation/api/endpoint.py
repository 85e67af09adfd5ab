"""An OpenAI-compatible endpoint, asked through the official client."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Event
from typing import Any

from tunewright.config.sections import ENTRA, ENTRA_SCOPE
from tunewright.core.errors import UserError
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.budget import Budget, BudgetReachedError
from tunewright.evaluation.api.pace import Pace, wait_asked_for
from tunewright.evaluation.api.paid import Paid, PaidAnswers
from tunewright.evaluation.api.protocols import CHAT, MAX_TOKENS_NAMES, REFUSED_TEXT, MalformedError, ask

_AT_ONCE = 16
_RETRIES = 6
"""Retries of a request that is refused for now; the client waits as long as the endpoint asks, or longer each time."""
_TRIES = 3
"""Times that a request is sent while its answer breaks off or is no chat completion; each counts against the budget."""
_SECONDS = 120.0
"""Timeout of a request."""
MAX_TOKENS, WIDE_MAX_TOKENS = 4_000, 32_000
"""Tokens that an answer may have, its thinking included; and the limit of a second try, where the first was cut."""
_TEMPERATURE = "temperature"
"""An argument that models which think before they answer refuse."""
_EFFORT = "reasoning_effort"

_LONG = "context_length_exceeded"
_NO_ANSWER = ("content_filter", _LONG)
"""Codes of refusals that concern one request only: a filter's, and that of a prompt longer than the model reads."""
_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum model length|(?:prompt|input) is too long|input token count"
    r"|`inputs` (?:must have less|tokens \+ `max_new_tokens`)",
    re.IGNORECASE,
)
"""What endpoints without that code say of a prompt that is longer than the model reads: vLLM, SGLang, Mistral and
DeepSeek (context length), llama.cpp (context size), Anthropic and Bedrock (is too long), Google (token count), and
Text Generation Inference (`inputs`)."""
_REFUSED = Paid("", ending="refused")
_OF_THE_REQUEST = (400, 413, 422)
"""Statuses of refusals for what a request holds: an argument, or its text."""
_TEXT = ("messages", "input", "prompt")
"""Arguments that hold the text; endpoints name a place in them too, such as messages[1].content."""

Chat = Sequence[dict[str, str]]
"""Messages of a conversation, with role and content."""


@dataclass(frozen=True)
class Question:
    """A conversation that an endpoint continues."""

    messages: Chat
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other arguments of the request."""
    most: int = 0
    """Tokens that the answer may have; the budget counts with them."""
    sample: int = 0
    """Which of several answers to the same question it asks for; each is paid by itself."""

    @property
    def wider(self) -> Question:
        """The same question with a higher limit for its answer."""
        return replace(self, options={**self.options, MAX_TOKENS_NAMES[0]: WIDE_MAX_TOKENS}, most=WIDE_MAX_TOKENS)

    def at_effort(self, effort: str) -> Question:
        """The same question at another reasoning effort."""
        return replace(self, options={**self.options, _EFFORT: effort})

    @cached_property
    def sent(self) -> str:
        """Everything that is sent, as text."""
        return json.dumps([list(self.messages), dict(self.options)], ensure_ascii=False)

    @property
    def size(self) -> int:
        """Bytes of everything that is sent."""
        return len(self.sent.encode())


class BudgetSpent(UserError):
    """The next answer could pass the budget."""


class RefusedError(Exception):
    """The endpoint refuses a request, and names no argument that every request has. Whether it refuses that text alone
    only its answers to others can tell.

    Args:
        explained: the error that ends the command if it refuses all.
        says_why: whether the reason that it gives is one of a single text.
    """

    def __init__(self, explained: UserError, *, says_why: bool):
        self.explained, self.says_why = explained, says_why
        super().__init__(explained.what)


class Endpoint:
    """One model behind an endpoint.

    Args:
        model: the model's name there.
        key: the environment variable that holds the key; None where no key is needed; ENTRA to sign in.
        section: the section of the spec with these settings, for error messages.
        protocol: the one of OpenAI's APIs that it speaks.

    Raises:
        UserError: the key is not set.
    """

    def __init__(self, url: str, model: str, key: str | None, section: str, protocol: str = CHAT):
        from openai import DefaultHttpxClient, OpenAI

        self._url, self._model, self._section, self._protocol = url, model, section, protocol
        self._pace = Pace(_AT_ONCE)
        self._refused: set[str] = set()  # arguments that this model does not take
        self._taken: list[Mapping[str, Any]] = []  # arguments with which it has answered
        self._max_tokens_name = MAX_TOKENS_NAMES[0]
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

            signed_in: Callable[[], str] = get_bearer_token_provider(DefaultAzureCredential(), ENTRA_SCOPE)
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
        """The answers with the index of their question, as they come in; those paid for before come first.

        Raises:
            UserError: the endpoint refuses, or can't be reached, or the budget is reached. The answers so far are kept.
        """
        budget = budget or _unlimited()
        left: list[list[int]] = []
        for same in alike(questions):
            question = questions[same[0]]
            known = paid.get(self._key(question))
            if not known:
                left.append(same)
                continue
            budget.count_kept(self._key(question), question.size, question.most, known)
            self._note(question, known)
            for index in same:
                yield index, known
        stop = Event()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            pending = {pool.submit(self._ask, questions[same[0]], budget, stop): same for same in left}
            kept: set[Future[Paid]] = set()
            try:
                for done, answer in self._ended({each: questions[same[0]] for each, same in pending.items()}):
                    question, refusal = questions[pending[done][0]], done.exception()
                    if not isinstance(refusal, RefusedError):
                        paid.put(self._key(question), answer)
                    elif refusal.says_why:  # it counts now as it will in a later run
                        paid.put(self._key(question), answer)
                        budget.count_kept(self._key(question), question.size, question.most, answer)
                    kept.add(done)
                    for index in pending[done]:
                        yield index, answer
            except BudgetReachedError:
                raise self._no_budget(len(questions), budget) from None
            except RefusedError as error:
                raise error.explained from None
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                for future in pending.keys() - kept:  # answers under way are paid too
                    if not future.cancelled() and not future.exception():
                        paid.put(self._key(questions[pending[future][0]]), future.result())

    def _ended(self, pending: Mapping[Future[Paid], Question]) -> Iterator[tuple[Future[Paid], Paid]]:
        """The requests with their answers, as they end.

        A refusal that names no argument is an answer to its text once the endpoint answers another one after it, or
        gives a reason that holds for one text and has answered before. As many in a row as are under way at once refuse
        the settings or the account.

        Raises:
            RefusedError: the endpoint refuses all of them.
            UserError: it can't be reached, or refuses otherwise.
        """
        refused: list[Future[Paid]] = []
        for done in as_completed(pending):
            error = done.exception()
            if isinstance(error, CancelledError):
                continue  # another failure ended it
            if not isinstance(error, RefusedError):
                answer = done.result()
                self._note(pending[done], answer)
                yield done, answer
                if answer.text:
                    yield from ((each, _REFUSED) for each in refused)
                    refused.clear()
            elif error.says_why and self._has_taken(pending[done]):
                yield done, _REFUSED
            else:
                refused.append(done)
                if len(refused) == _AT_ONCE:
                    raise error
        for done in refused:
            if not self._has_taken(pending[done]):
                done.result()
            yield done, _REFUSED

    def _note(self, question: Question, answer: Paid) -> None:
        if answer.text and not self._has_taken(question):
            self._taken.append(question.options)

    def _has_taken(self, question: Question) -> bool:
        """Whether the endpoint has answered a question with the same arguments."""
        return question.options in self._taken

    def _key(self, question: Question) -> list[Any]:
        return cache_key(self._url, self._model, question, self._protocol)

    def _ask(self, question: Question, budget: Budget, stop: Event) -> Paid:
        """Ask one question, within the budget and the pace.

        Raises:
            CancelledError: nobody waits for the answer any more.
        """
        with self._pace.turn():
            for _ in range(_TRIES):
                reserved = budget.reserve(question.size, question.most)
                try:
                    if stop.is_set():
                        raise CancelledError
                    answer = self._answered(question)
                except MalformedError as error:
                    budget.lose(reserved)
                    broken = error
                except RefusedError:
                    budget.release(reserved)
                    raise
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
        """Send one request.

        Raises:
            MalformedError: the reply is no answer, and may be whole next time.
            RefusedError: the endpoint does not take this request, and perhaps none.
            UserError: the endpoint refuses, or can't be reached.
        """
        import openai

        options = {
            self._max_tokens_name if name == MAX_TOKENS_NAMES[0] else name: value
            for name, value in question.options.items()
            if name not in self._refused
        }
        try:
            return ask(self._protocol, self._client, self._model, question.messages, options)
        except openai.APIStatusError as error:
            if error.status_code not in _OF_THE_REQUEST:
                raise self._explained(error) from None
            complaint, too_long = _complaint(error), _is_too_long(error)
            if question.most > MAX_TOKENS and (too_long or complaint in MAX_TOKENS_NAMES):
                return Paid("", ending="cut")  # the endpoint allows no more tokens than the first limit
            if error.code in _NO_ANSWER:
                return _REFUSED
            if not complaint:
                raise RefusedError(self._explained(error), says_why=too_long or error.code == REFUSED_TEXT) from None
            if complaint == _TEMPERATURE and _TEMPERATURE in options:
                self._refused.add(_TEMPERATURE)
                return self._answered(question)
            if complaint == MAX_TOKENS_NAMES[0] and complaint in options:
                self._max_tokens_name = MAX_TOKENS_NAMES[1]
                return self._answered(question)
            raise self._explained(error) from None
        except openai.APIResponseValidationError as error:
            raise MalformedError(error) from None
        except openai.OpenAIError as error:
            raise self._explained(error) from None
        except ValueError as error:  # the body is no JSON
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

    def _no_budget(self, count: int, budget: Budget) -> BudgetSpent:
        key, fewer = f"{budget.section}.budget_usd", f"{budget.section}.{budget.fewer}"
        changes = f"Allow more, or ask fewer: {key}=…, {fewer}=…" if budget.fewer else f"Allow more: {key}=…"
        return BudgetSpent(
            f"The next answer could pass the budget ({key}).",
            where=self._url,
            why=f"The answers so far, of {count:,} questions, are kept and are not paid again.",
            fix=f"{changes}; then type the same command again.",
        )

    def _explained(self, error: Exception) -> UserError:
        """The error that says what to do about a refusal. It leaves out the endpoint's own text, which may hold what
        was sent."""
        import openai

        again, section = "The answers so far are kept: type the same command again.", self._section
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
            case openai.APIStatusError() if _is_too_long(error):
                what = "The model reads less than a prompt and the room for its answer take."
                fix = f"Ask a model that reads more, or serve it with a longer context. {again}"
            case openai.BadRequestError() | openai.UnprocessableEntityError():
                complaint = _complaint(error)
                what = f"The endpoint does not take this request (status {error.status_code}"
                what += f", {complaint})." if complaint else ")."
                fix = again
                if section != "judge":
                    fix = f"Where it takes no response_format or tools, write `structured: false` under {section}. "
                    fix += again
                if complaint in (_EFFORT, "reasoning", "reasoning.effort"):
                    fix = f"Give it another `reasoning_effort` under {section}, or none. {again}"
            case openai.APIStatusError(status_code=status):
                what, fix = f"The endpoint answered with status {status}.", again
            case _:
                what, fix = f"The endpoint's answer can't be used ({type(error).__name__}).", again
        return UserError(what, where=self._url, fix=fix)


def _unlimited() -> Budget:
    return Budget(math.inf, ApiPrice(usd_in=0, usd_out=0))


def cache_key(url: str, model: str, question: Question, protocol: str = CHAT) -> list[Any]:
    """The key under which an answer is kept."""
    key: list[Any] = [url, model, list(question.messages)]
    if question.options:
        key.append(dict(question.options))
    if question.sample:
        key.append({"sample": question.sample})
    return key if protocol == CHAT else [*key, protocol]


def alike(questions: Sequence[Question]) -> list[list[int]]:
    """The indices of equal questions together, because each is asked once."""
    indices: dict[tuple[str, int], list[int]] = {}
    for index, question in enumerate(questions):
        indices.setdefault((question.sent, question.sample), []).append(index)
    return list(indices.values())


def _is_too_long(error: Any) -> bool:
    """Whether an endpoint refuses a prompt that is longer, with the room for its answer, than the model reads."""
    return error.code == _LONG or bool(_TOO_LONG.search(str(error.body)))


def _complaint(error: Any) -> str:
    """The argument that an endpoint complains about: the name of an argument, never text that was sent. Empty where it
    names none, or complains about the text or its length."""
    named = str(error.param or "")
    if _is_too_long(error) or named.startswith(_TEXT):
        return ""
    if named.replace("_", "").replace(".", "").isalpha():
        return named
    ours = (*MAX_TOKENS_NAMES, _TEMPERATURE, _EFFORT, "response_format")
    return next((name for name in ours if name in str(error.body)), "")
