"""An OpenAI-compatible endpoint, asked through the official client."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tunewright.errors import UserError
from tunewright.evaluate.paid import Paid, PaidAnswers

_AT_ONCE = 8
_RETRIES = 6
"""Of a request that is refused for now; the client waits as long as the endpoint asks, or longer each time."""

Chat = Sequence[dict[str, str]]
"""Messages of a conversation, with role and content."""


class Endpoint:
    """One model behind an endpoint.

    Args:
        key_variable: the environment variable that holds the key; none where no key is needed.

    Raises:
        UserError: the key is not there.
    """

    def __init__(self, url: str, model: str, key_variable: str | None):
        from openai import OpenAI

        key = os.environ.get(key_variable, "") if key_variable else "none"
        if not key:
            raise UserError(
                f"The key for {url} is not set.",
                where=f"environment variable {key_variable}",
                fix=f"Type: export {key_variable}=…  (a local endpoint without keys: judge.key=null)",
            )
        self._url, self._model = url, model
        self._client = OpenAI(base_url=url, api_key=key, max_retries=_RETRIES)

    def ask_all(self, chats: Sequence[Chat], paid: PaidAnswers) -> Iterator[tuple[int, Paid]]:
        """The answer to each conversation, by its place, as they come in; those that were paid for before come first.

        Raises:
            UserError: the endpoint refuses, or can't be reached. What came in before is kept.
        """
        left = []
        for place, chat in enumerate(chats):
            if known := paid.get(self._asked(chat)):
                yield place, known
            else:
                left.append(place)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            pending = {pool.submit(self._ask, chats[place]): place for place in left}
            try:
                for done in as_completed(pending):
                    place, answer = pending[done], done.result()
                    paid.put(self._asked(chats[place]), answer)
                    yield place, answer
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _asked(self, chat: Chat) -> list[object]:
        return [self._url, self._model, list(chat)]

    def _ask(self, chat: Chat) -> Paid:
        import openai

        try:
            reply = self._client.chat.completions.create(model=self._model, messages=list(chat))  # type: ignore[arg-type]
        except openai.OpenAIError as error:
            raise self._explained(error) from None
        usage = reply.usage
        text = reply.choices[0].message.content if reply.choices else None
        return Paid(text or "", usage.prompt_tokens if usage else 0, usage.completion_tokens if usage else 0)

    def _explained(self, error: Exception) -> UserError:
        """What to do about a refusal. Its own text is shown only where it can't hold what was sent."""
        import openai

        again = "What was answered is kept: type the same command again."
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                what, fix = "The endpoint does not accept this key.", "Check the key, then type the same command again."
            case openai.NotFoundError():
                what, fix = f"The endpoint has no model '{self._model}'.", "Check judge.model and judge.url."
            case openai.RateLimitError():
                what, fix = "The endpoint refuses more requests for now, or the account is spent.", again
            case openai.APITimeoutError():
                what, fix = "The endpoint does not answer in time.", again
            case openai.APIConnectionError():
                what, fix = "The endpoint can't be reached.", f"Check judge.url and the network. {again}"
            case openai.APIStatusError(status_code=status):
                what, fix = f"The endpoint answered with status {status}.", again
            case _:
                what, fix = f"The endpoint's answer can't be used ({type(error).__name__}).", again
        return UserError(what, where=self._url, fix=fix)
