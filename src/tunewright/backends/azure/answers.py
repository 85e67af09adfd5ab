"""Azure's answers: text without secrets, for every quotation; and the answers to a probe, with what each means for a
rule, and the file of them, which identifies nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from tunewright.core.version import __version__

Wanted = Literal["taken", "refused"]
Verdict = Literal["holds", "does not hold", "not asked"]
_SHAPE = (400, 405, 413, 415, 422)
"""Statuses with which Azure refuses the content of a request; with others it refuses the caller, the time or the
place."""
_OTHER = re.compile(r"quota|capacity|polic(?:y|ies)", re.I)
"""Matches a refusal for another reason than the rule: nothing follows from it."""
_NAMES = (
    r"sig|signature|(?:access_?|refresh_?|id_?|cluster)?token|password|client_?(?:secret|assertion)"
    r"|account_?key|shared_?access_?key|api[-_]?key"
)
"""Names of secrets in addresses, connection strings and JSON."""
_SCHEMES = "(?:bearer|basic|digest|negotiate|sharedkey(?:lite)?|sharedaccesssignature)"
"""The schemes with which an Authorization header may begin."""
_VALUE = r"[^&;,\s\"'<>)\]}]+"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://)[^/\s\"'@]+@"), r"\1<secret>@"),  # the password in the address of a proxy or a feed
    # Without the mark before them, a code is the name of a refusal, and a key may be anything.
    (re.compile(rf"((?:[?&]|&amp;)(?:code|key)=){_VALUE}", re.I), r"\1<secret>"),
    (re.compile(rf"(?:(?<![A-Za-z])|(?<=%3F))((?:{_NAMES})(?:=|%3D|[\"']\s*:\s*[\"'])){_VALUE}", re.I), r"\1<secret>"),
    (re.compile(rf"\b(authorization[\"']?\s*[:=]\s*[\"']?(?:{_SCHEMES}\s+)?+){_VALUE}", re.I), r"\1<secret>"),
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]{16,}", re.I), r"\1<secret>"),
    (re.compile(r"\beyJ[\w-]+(?:\.[\w-]*)*"), "<token>"),
)
"""Patterns of secrets: tokens, passwords, signatures of addresses. HTTP libraries write these into their errors, such
as urllib3's "Max retries exceeded with url: ...?sig=...", which it raises unless its retries are switched off."""
_PERSONAL: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+"), "<e-mail>"),
    (re.compile(r"([?&](?:se|skoid|sktid)=)[^&\s\"']+"), r"\1<secret>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b", re.I), "<id>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>"),
)


@dataclass(frozen=True)
class AzureAnswer:
    """One question and Azure's answer."""

    asked: str
    wanted: Wanted | None
    """What Azure does by the rule; None if the answer is only recorded."""
    status: int | None
    """The HTTP status; None if there was no answer."""
    code: str = ""
    message: str = ""
    about: str = field(default="", repr=False)
    """A pattern that matches a refusal because of the rule."""

    @property
    def agrees(self) -> bool | None:
        """Whether Azure acts by the rule; None if nothing follows from its answer."""
        if self.wanted is None or self.status is None:
            return None
        if self.status < 400:
            return self.wanted == "taken"
        text = f"{self.code} {self.message}"
        if self.status not in _SHAPE or _OTHER.search(text) or not re.search(self.about, text, re.I):
            return None
        return self.wanted == "refused"


@dataclass(frozen=True)
class ProbeRow:
    """A rule of the table, and whether it holds in this subscription."""

    rule: str
    verdict: Verdict
    why: str
    """What Azure answered, or why the probe did not ask."""
    answers: tuple[AzureAnswer, ...] = ()

    @property
    def sentence(self) -> str:
        """The row as a line for people."""
        return f"{self.rule}: {self.verdict}; {self.why}"


@dataclass(frozen=True)
class Probe:
    """A subscription's answers."""

    region: str
    day: date
    rows: tuple[ProbeRow, ...]
    notes: dict[str, str]
    """Facts beside the rules, such as which providers are registered."""
    left: tuple[str, ...]
    """The commands that delete what could not be deleted."""
    names: Mapping[str, str] = field(repr=False)
    """Texts that identify this subscription or the user, each with its replacement in the file."""

    @property
    def passed(self) -> bool:
        """Whether each rule that was asked about holds, and nothing was left behind."""
        return not self.left and all(row.verdict != "does not hold" for row in self.rows)

    def shareable(self) -> dict[str, Any]:
        """The part of it that may be sent to strangers."""
        report = {
            "tunewright": __version__,
            "date": self.day.isoformat(),
            "region": self.region,
            "notes": self.notes,
            "rules": [
                {
                    "rule": row.rule,
                    "verdict": row.verdict,
                    "why": row.why,
                    "answers": [
                        {name: value for name, value in asdict(each).items() if name != "about"} for each in row.answers
                    ],
                }
                for row in self.rows
            ],
        }
        return dict(_hidden(report, self.names))

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.shareable(), indent=2, ensure_ascii=False) + "\n", "utf-8")


def judged(rule: str, answers: Iterable[AzureAnswer]) -> ProbeRow:
    """Judge a rule by Azure's answers: it holds if all of them agree with it, and does not if one contradicts it."""
    answers = tuple(answers)
    against = next((each for each in answers if each.agrees is False), None)
    if against:
        did = "took it" if against.wanted == "refused" else "refused it"
        return ProbeRow(rule, "does not hold", f"{against.asked}: Azure {did}{_quoted(against)}", answers)
    unclear = next((each for each in answers if each.wanted and each.agrees is None), None)
    if unclear:
        why = f"{unclear.asked}: nothing follows from the answer{_quoted(unclear)}"
        return ProbeRow(rule, "not asked", why, answers)
    why = "; ".join(f"{each.asked}: {each.wanted or 'noted'}{_quoted(each)}" for each in answers)
    return ProbeRow(rule, "holds", why, answers)


def _quoted(answer: AzureAnswer) -> str:
    parts = ", ".join(filter(None, (str(answer.status or ""), answer.code, answer.message)))
    return f" ({parts})" if answer.message or answer.code else ""


def _hidden(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value whose texts identify nobody."""
    if isinstance(value, dict):
        return {key: _hidden(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each, names) for each in value]
    return hidden(value, names) if isinstance(value, str) else value


def hidden(text: str, names: Mapping[str, str]) -> str:
    """A text in which everything that identifies somebody is replaced.

    Args:
        names: whole words to replace, in any case, each with its replacement.
    """
    for name in _longest_first(names):
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", names[name], text, flags=re.I)
    return _replaced(without_secrets(text), _PERSONAL)


def without_secrets(text: str) -> str:
    """A text for the user in which secrets are replaced. Shorten a text after this, not before."""
    return _replaced(text, _SECRETS)


def _replaced(text: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text)
    return text


def _longest_first(names: Mapping[str, str]) -> Sequence[str]:
    return sorted(filter(None, names), key=len, reverse=True)
