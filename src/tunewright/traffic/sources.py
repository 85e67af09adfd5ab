"""Exchanges from wherever traffic was written: the gateway's captures, or the logs of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tunewright.data.readers.base import Fault
from tunewright.data.readers.calls import read_calls
from tunewright.economics.prices import PriceBook, price_book
from tunewright.economics.usage import TokenUsage, usd_by_book
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.exchanges import Exchange, has_exchanges, read_exchanges
from tunewright.logs import LoggedCall

_WITHOUT_TIME = datetime(1970, 1, 1, tzinfo=UTC).isoformat()
"""Of a call whose log has no times."""
_FAILED = 599
"""The status of a call that failed, where the log does not tell which one it had."""


def read_traffic(source: Path, unreadable: Callable[[str], None]) -> Iterator[Exchange]:
    """All exchanges of a source: a folder of the gateway's captures, or a file, a folder or a pattern of logs.

    Args:
        unreadable: is called with the place of each line that is no exchange.

    Raises:
        UserError: there is no such file.
    """
    if has_exchanges(source):
        yield from read_exchanges(source, lambda file, number: unreadable(f"{file.name}:{number}"))
        return
    if source.is_dir() and not any(source.iterdir()):  # of a gateway that has captured nothing yet
        return
    book = price_book()
    for number, call in enumerate(read_calls(source), 1):
        if isinstance(call, Fault):
            unreadable(f"{call.where} ({call.reason})")
        else:
            yield _exchange(call, f"{number:032x}", book)


def has_time(exchange: Exchange) -> bool:
    return exchange.time != _WITHOUT_TIME


def _exchange(call: LoggedCall, identity: str, book: PriceBook) -> Exchange:
    usage = TokenUsage(**vars(call.usage)) if call.usage else None
    usd = call.usd
    if usd is None and usage:
        usd = usd_by_book(usage, book, call.model, call.answered_model)
    answer = call.answer
    code = call.fault[0] if call.fault else None
    # Of an answer that can't be learnt from, only tokens and price count.
    is_label = answer is not None and code is None and answer.fault is None
    choice = (
        AnswerChoice(answer.text, answer.refusal, _calls(answer.tool_calls), answer.finish_reason)
        if answer and is_label
        else None
    )
    return Exchange(
        id=identity,
        time=call.time.isoformat(timespec="milliseconds") if call.time else _WITHOUT_TIME,
        upstream="log",
        kind=call.kind,
        path="",
        client=None,
        model=call.model or call.answered_model,
        request=dict(call.request),
        request_bytes=0,
        status=_FAILED if code == "failed" else 200,
        answered_model=call.answered_model,
        choices=[choice] if choice else [],
        usage=usage,
        usd=usd,
        seconds=call.seconds or 0.0,
        first_seconds=call.first_seconds,
        streamed=call.is_streamed,
        answered_by="own" if code == "own-answer" else "upstream",
    )


def _calls(tool_calls: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"name": call["name"], "arguments": call["arguments"]} for call in tool_calls]
