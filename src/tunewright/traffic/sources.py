"""Exchanges from wherever traffic was written: the gateway's captures, or the logs of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.data.readers.base import Fault
from tunewright.data.readers.calls import read_calls
from tunewright.data.readers.sources import files
from tunewright.economics.prices import PriceBook, price_book
from tunewright.economics.usage import TokenUsage, usd_by_book
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.exchanges import EXCHANGE_FILES, Exchange, exchanges_in, has_exchanges
from tunewright.logs import LoggedAnswer, LoggedCall
from tunewright.logs.beside import rows_of
from tunewright.logs.gateway import exchange_fault, is_exchange

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


@dataclass
class Unreadable:
    """The lines that are no exchange. All of a log's may be, so only the place of the first is kept."""

    count: int = 0
    first: str = ""

    def add(self, place: str) -> None:
        self.count += 1
        self.first = self.first or place


def read_traffic(source: Path, unreadable: Callable[[str], None]) -> Iterator[ReadExchange]:
    """All exchanges of a source: a file, a folder or a pattern, of the gateway's captures or of logs. In a folder to
    which a gateway writes, nothing but its captures is read.

    Args:
        unreadable: is called with the place of each line that is no exchange.

    Raises:
        UserError: there is no such file.
    """
    if source.is_dir() and all(each.name.startswith(".") for each in source.iterdir()):
        return  # a gateway has captured nothing yet
    if captures := _captures(source):
        for exchange in exchanges_in(captures, lambda file, number: unreadable(f"{file.name}:{number}")):
            yield ReadExchange(exchange, _fault(exchange))
        return
    book = price_book()
    for number, call in enumerate(read_calls(source), 1):
        if isinstance(call, Fault):
            unreadable(f"{call.where} ({call.reason.rstrip('.')})")
        else:
            yield ReadExchange(_exchange(call, f"{number:032x}", book), _code(call.fault, call.answer))


def _captures(source: Path) -> list[Path]:
    """The files of the gateway's captures that a source is, the oldest first; none: it has other logs, too. Logs have
    less to say of an exchange: what a gateway asked for vectors is no model's answer to them."""
    if source.is_dir() and has_exchanges(source):
        # The pattern without `**` follows links.
        patterns = (f"*/{EXCHANGE_FILES}", f"**/{EXCHANGE_FILES}")
        found = list({file for pattern in patterns for file in source.glob(pattern) if file.is_file()})
    else:
        found = [file.path for file in files(source) if not file.is_doubtful]
        if not all(map(_has_captures, found)):
            return []
    return sorted(found, key=lambda file: file.name)


def _has_captures(file: Path) -> bool:
    """Whether a file has the gateway's captures, by its first row. A file that the gateway has just begun has none."""
    if file.suffix != ".jsonl":
        return False
    first = next(rows_of(file), None)
    return file.match(EXCHANGE_FILES) if first is None else is_exchange(first)


def nothing_in(source: Path, unreadable: Unreadable) -> UserError:
    """The error for a source without a request."""
    if count := unreadable.count:
        which = f"The first of {count:,} lines that can't be read" if count > 1 else "The line that can't be read"
        return UserError("No model call here can be read.", where=source, why=f"{which} is {unreadable.first}.")
    if source.is_dir():
        return UserError(
            "There are no captured requests here.",
            where=source,
            fix="Set `capture` in gateway.yaml and let requests pass: tunewright gateway gateway.yaml",
        )
    return UserError(
        "There are no calls of a language model here.",
        where=source,
        fix="Name a log that has requests with their answers.",
    )


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
        usage_is_estimated=call.usage_is_estimated,
        usd=usd,
        seconds=call.seconds or 0.0,
        first_seconds=call.first_seconds,
        streamed=call.is_streamed,
        answered_by="own" if code == "own-answer" else "upstream",
        share=call.share,
        is_audit=call.is_audit,
    )


def _choice(answer: LoggedAnswer) -> AnswerChoice:
    calls = [{"name": call["name"], "arguments": call["arguments"]} for call in answer.tool_calls]
    return AnswerChoice(answer.text, answer.refusal, calls, answer.finish_reason)
