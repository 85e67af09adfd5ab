"""What Azure said: without secrets wherever it is quoted. To a probe: each answer, what it means for a rule, and the
file of them, which identifies nobody."""

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
"""Statuses by which Azure refuses what was asked; with others it refuses who asks, when, or where."""
_OTHER = re.compile(r"quota|capacity|polic(?:y|ies)", re.I)
"""In the words of a refusal that is not of the rule: nothing follows from it."""
_NAMES = (
    r"sig|signature|(?:access_?|refresh_?|id_?|cluster)?token|password|client_?(?:secret|assertion)"
    r"|account_?key|shared_?access_?key|api[-_]?key"
)
"""What secrets are called, in addresses, connection strings and JSON."""
_SCHEMES = "(?:bearer|basic|digest|negotiate|sharedkey(?:lite)?|sharedaccesssignature)"
"""What a header of a sign-in may begin with."""
_VALUE = r"[^&;,\s\"'<>)\]}]+"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://)[^/\s\"'@]+@"), r"\1<secret>@"),  # the password in the address of a proxy or a feed
    # Without the mark before it a code is the name of a refusal, and a key anything.
    (re.compile(rf"((?:[?&]|&amp;)(?:code|key)=){_VALUE}", re.I), r"\1<secret>"),
    (re.compile(rf"(?:(?<![A-Za-z])|(?<=%3F))((?:{_NAMES})(?:=|%3D|[\"']\s*:\s*[\"'])){_VALUE}", re.I), r"\1<secret>"),
    (re.compile(rf"\b(authorization[\"']?\s*[:=]\s*[\"']?(?:{_SCHEMES}\s+)?+){_VALUE}", re.I), r"\1<secret>"),
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]{16,}", re.I), r"\1<secret>"),
    (re.compile(r"\beyJ[\w-]+(?:\.[\w-]*)*"), "<token>"),
)
"""What lets somebody in: tokens, passwords, signatures of addresses. HTTP libraries write these into their errors, such
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
    """What the rule says that Azure does; None where the answer is only noted."""
    status: int | None
    """Of the answer over HTTP; None where there was none."""
    code: str = ""
    message: str = ""
    about: str = field(default="", repr=False)
    """A pattern of the words in which a refusal is about the rule."""

    @property
    def agrees(self) -> bool | None:
        """Whether Azure does what the rule says; None where nothing follows from what it said."""
        if self.wanted is None or self.status is None:
            return None
        if self.status < 400:
            return self.wanted == "taken"
        told = f"{self.code} {self.message}"
        if self.status not in _SHAPE or _OTHER.search(told) or not re.search(self.about, told, re.I):
            return None
        return self.wanted == "refused"


@dataclass(frozen=True)
class ProbeRow:
    """A rule of the table, and whether it holds in this subscription."""

    rule: str
    verdict: Verdict
    why: str
    """What was found, or why it was not asked."""
    answers: tuple[AzureAnswer, ...] = ()

    @property
    def sentence(self) -> str:
        """In a line, for people."""
        return f"{self.rule}: {self.verdict}; {self.why}"


@dataclass(frozen=True)
class Probe:
    """What a subscription answered."""

    region: str
    day: date
    rows: tuple[ProbeRow, ...]
    notes: dict[str, str]
    """What was looked at beside the rules, such as the providers that are registered."""
    left: tuple[str, ...]
    """The commands that take away what could not be taken away."""
    names: Mapping[str, str] = field(repr=False)
    """What identifies this subscription and whoever asked, and what stands for it in the file."""

    @property
    def passed(self) -> bool:
        """Whether each rule that was asked holds, and nothing was left."""
        return not self.left and all(row.verdict != "does not hold" for row in self.rows)

    def shareable(self) -> dict[str, Any]:
        """All of it that may be sent to strangers."""
        told = {
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
        return dict(_hidden(told, self.names))

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.shareable(), indent=2, ensure_ascii=False) + "\n", "utf-8")


def judged(rule: str, answers: Iterable[AzureAnswer]) -> ProbeRow:
    """A rule by what Azure said: it holds where every answer agrees, and does not where one speaks against it."""
    told = tuple(answers)
    against = next((each for each in told if each.agrees is False), None)
    if against:
        did = "took it" if against.wanted == "refused" else "refused it"
        return ProbeRow(rule, "does not hold", f"{against.asked}: Azure {did}{_quoted(against)}", told)
    unclear = next((each for each in told if each.wanted and each.agrees is None), None)
    if unclear:
        return ProbeRow(rule, "not asked", f"{unclear.asked}: nothing follows from the answer{_quoted(unclear)}", told)
    return ProbeRow(
        rule, "holds", "; ".join(f"{each.asked}: {each.wanted or 'noted'}{_quoted(each)}" for each in told), told
    )


def _quoted(said: AzureAnswer) -> str:
    inside = ", ".join(filter(None, (str(said.status or ""), said.code, said.message)))
    return f" ({inside})" if said.message or said.code else ""


def _hidden(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value in whose texts nothing is left that identifies anybody."""
    if isinstance(value, dict):
        return {key: _hidden(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each, names) for each in value]
    return hidden(value, names) if isinstance(value, str) else value


def hidden(text: str, names: Mapping[str, str]) -> str:
    """A text with what identifies somebody replaced.

    Args:
        names: what to replace, whole words in any case, and by what.
    """
    for name in _longest_first(names):
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", names[name], text, flags=re.I)
    return _replaced(without_secrets(text), _PERSONAL)


def without_secrets(text: str) -> str:
    """A text for the user with what lets somebody in replaced. It is to be cut to its length after that."""
    return _replaced(text, _SECRETS)


def _replaced(text: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, instead in patterns:
        text = pattern.sub(instead, text)
    return text


def _longest_first(names: Mapping[str, str]) -> Sequence[str]:
    return sorted(filter(None, names), key=len, reverse=True)
