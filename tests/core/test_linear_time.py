"""Text from outside takes time that grows as it does, whatever stands in it.

Each case is some hundred thousand characters, which a linear function reads in a second at most. What tries each place
against each other takes minutes to hours for them, and holds the interpreter meanwhile.
"""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import pytest

from tunewright.core.errors import UserError
from tunewright.data.readers import read_rows
from tunewright.documents.kinds import text_of
from tunewright.documents.thread import newest
from tunewright.logs.helicone_python import from_python
from tunewright.logs.otlp_texts import loosely_parsed
from tunewright.models.chat import _quoted
from tunewright.pii import find_pii
from tunewright.serving.captures import CaptureRecord
from tunewright.serving.redaction import redact
from tunewright.tasks import Message
from tunewright.tasks.spans.readings import pieces, shaped

MANY = 100_000
CPU_SECONDS = 20
"""Far more than any case takes on a slow machine that does other work."""


def ends_in_time(function: Callable[[], object], seconds: int = CPU_SECONDS) -> bool:
    """Whether a call ends, well or with a `UserError`, within some seconds of CPU time. It runs in a process that is
    killed where it does not."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        try:
            with suppress(UserError):
                function()
        except Exception:  # noqa: BLE001 (whatever it is, the child must not run on as pytest)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed"
    return not os.WIFSIGNALED(status)


@pytest.mark.slow
def test_what_never_ends_is_found_out() -> None:
    def forever() -> None:
        while True:
            pass

    assert not ends_in_time(forever, 1)
    assert ends_in_time(lambda: None)


TEXTS = {
    "a street and a town of hyphens": "12 Elm Street, " + "Aa-" * MANY,
    "postcodes without a digit": "1;" + "ZIP " * MANY,
    "a Slack token without an end": "xoxb-" * MANY + "_",
    "a signed token without an end": "eyJ-" * MANY + " .eyJ",
    "an address without a host": "a%" * MANY + " @",
    "a login without an end": "://a:" * MANY + " @",
    "a login of many parts": "://a:b" + "@c" * MANY + "@d/" * MANY + "e@" * MANY,
    "cards beside dashes": "4111 1111 1111 1111\N{EN DASH}" * (MANY // 10),
    "an address behind hyphens": "-" * MANY + "a%-" * MANY + "@",
    "a card without an end": "card " + "1111." * MANY,
    "many values with a label": " ".join(f"pin: a{number:05}" for number in range(MANY // 5)),
    "many names": " ".join(f"Mr Xa{a}{b}{c}o" for a, b, c in product("bdfgklmnprst", ascii_lowercase, ascii_lowercase)),
    "many joined streets": "Lindengasse 12, " * (MANY // 50),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_finding_personal_data(text: str) -> None:
    assert ends_in_time(lambda: find_pii(text))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["many values with a label", "many names"])
def test_redacting(name: str) -> None:
    entry = CaptureRecord(
        id="1",
        time="2026-11-29T00:00:00Z",
        model="m",
        by=None,
        version="v",
        request=TEXTS[name],
        answer="yes",
        confidence=0.5,
        escalate=False,
        in_scope=True,
    )
    assert ends_in_time(lambda: redact(entry, from_fixed_set=True))


@pytest.mark.parametrize("content", ["Field: value\r\n" * MANY, "a:" * MANY, " \r\n" * MANY])
def test_reading_a_document_of_no_known_kind(content: str) -> None:
    assert ends_in_time(lambda: text_of("document", content.encode()))


def test_reading_a_mail() -> None:
    assert ends_in_time(lambda: newest("Hello.\ndisclaimer" + " " * MANY + "x", "Hello"))


def test_marking_a_message_as_quoted() -> None:
    assert ends_in_time(lambda: _quoted(Message(role="user", content="a" + " " * MANY + "b")))


def test_aligning_a_value_with_a_text() -> None:
    assert ends_in_time(lambda: list(pieces("Main St, Bern", "Main St," + "\n" * MANY + "x", {})))


def test_the_numbers_of_a_text() -> None:
    assert ends_in_time(lambda: shaped(("1" + " " * 1000) * (MANY // 1000) + "1" * MANY + ".1.2024"))


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_text_as_python_shows_it_without_an_end(quote: str) -> None:
    text = "{" + f"{quote}\\" * MANY
    assert ends_in_time(lambda: [from_python(text), loosely_parsed(text)])


@pytest.mark.slow
def test_reading_a_table_with_a_stray_quote(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('text,label\n"' + "a\n" * 10 * MANY, "utf-8")
    assert ends_in_time(lambda: sum(1 for _ in read_rows(file)))
