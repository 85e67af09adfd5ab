"""Exchanges from wherever traffic was written: the gateway's captures, or the logs of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunewright.data.readers.base import Fault
from tunewright.data.readers.calls import read_calls
from tunewright.economics.prices import PriceBook, price_book
from tunewright.economics.usage import TokenUsage, usd_by_book
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.exchanges import Exchange, has_exchanges, read_exchanges
from tunewright.logs import LoggedAnswer, LoggedCall
from tunewright.logs.gateway import exchange_fault

_WITHOUT_TIME = datetime(1970, 1, 1, tzinfo=UTC).isoformat()
"""Of a call whose log has no times."""
_FAILED = 599
"""The status of a call that failed, where the log does not tell which one it had."""


@dataclass(frozen=True)
class ReadExchange:
    """An exchange, and whether its answer can be learnt from."""

    exchange: Exchange
    fault: str | None = None
    """The code of why its answer can't be learnt from, as `tunewright data check` has it (D032); None: it can."""


def read_traffic(source: Path, unreadable: Callable[[str], None]) -> Iterator[ReadExchange]:
    """All exchanges of a source: a folder of the gateway's captures, or a file, a folder or a pattern of logs.

    Args:
        unreadable: is called with the place of each line that is no exchange.

    Raises:
        UserError: there is no such file.
    """
    if has_exchanges(source):
        for exchange in read_exchanges(source, lambda file, number: unreadable(f"{file.name}:{number}")):
            yield ReadExchange(exchange, _fault(exchange))
        return
    if source.is_dir() and not any(source.iterdir()):  # of a gateway that has captured nothing yet
        return
    book = price_book()
    for number, call in enumerate(read_calls(source), 1):
        if isinstance(call, Fault):
            unreadable(f"{call.where} ({call.reason})")
        else:
            yield ReadExchange(_exchange(call, f"{number:032x}", book), _code(call.fault, call.answer))


def has_time(exchange: Exchange) -> bool:
    return exchange.time != _WITHOUT_TIME


def _fault(exchange: Exchange) -> str | None:
    """As of `ReadExchange`, by the rule for captures that are read as training data."""
    answer = None
    if exchange.choices:
        first = exchange.choices[0]
        answer = LoggedAnswer(first.text, first.refusal, first.tool_calls, first.finish_reason)
    return _code(exchange_fault(vars(exchange), answer), answer)


def _code(fault: tuple[str, str] | None, answer: LoggedAnswer | None) -> str | None:
    """The code of an exchange's fault, or else of its answer's; None: there is none."""
    found = fault or (answer.fault if answer else ("no-answer", ""))
    return found[0] if found else None


def _exchange(call: LoggedCall, identity: str, book: PriceBook) -> Exchange:
    usage = TokenUsage(**vars(call.usage)) if call.usage else None
    usd = call.usd
    if usd is None and usage:
        usd = usd_by_book(usage, book, call.model, call.answered_model, tier=call.service_tier)
    answer = call.answer
    code = call.fault[0] if call.fault else None
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
        choices=[_choice(answer)] if answer else [],
        usage=usage,
        usd=usd,
        seconds=call.seconds or 0.0,
        first_seconds=call.first_seconds,
        streamed=call.is_streamed,
        answered_by="own" if code == "own-answer" else "upstream",
    )


def _choice(answer: LoggedAnswer) -> AnswerChoice:
    calls = [{"name": call["name"], "arguments": call["arguments"]} for call in answer.tool_calls]
    return AnswerChoice(answer.text, answer.refusal, calls, answer.finish_reason)
