"""A project from a job that was found in traffic: its data, and a spec with the API as it was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.config import SPEC_FILE
from tunewright.core.artifacts import require_free
from tunewright.core.errors import UserError
from tunewright.data.guess.paid import PaidToday
from tunewright.data.guess.spec import Guess, guess_spec
from tunewright.data.readers.forms import LOGGED
from tunewright.economics.prices import price_book
from tunewright.economics.usage import name_in_book
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.jobs.outcomes import label_in, record_in
from tunewright.gateway.jobs.signature import write_signature
from tunewright.logs.call import tool_call
from tunewright.traffic.jobs import Drawn, TrafficJob, find_job

DRAWN = 50_000
"""The most rows that a project gets, drawn at random."""
_LEAST = 20
_COLUMNS = {"label": "label", "record": "record", "text": "answer"}
"""The column of the answers, by what an owned model answers."""


@dataclass(frozen=True)
class NewProject:
    folder: Path
    job: TrafficJob
    rows: int
    guess: Guess

    @property
    def left_out(self) -> str:
        """How many requests were left out, and why; empty: none was."""
        return _left_out(self.job)

    @property
    def cached(self) -> str:
        """How much of a prompt the API's cache held; empty: nothing, or nobody counted."""
        share = self.job.cached_tokens / (self.job.prompt_tokens or 1)
        if not share:
            return ""
        known = f"The API took {share:.0%} of their prompts from its cache"
        if any(each.usage for each in self.job.drawn):
            return f"{known}; `tunewright assess` and the verdict price them so."
        return f"{known}, as the gateway estimates; `tunewright assess` and the verdict price all as new."


def project_of(captures: Path, name: str, folder: Path) -> NewProject:
    """Write a project for a job: `data/train.jsonl` with each captured input, the API's answer and which API gave
    it when, the spec, and `job.json`, by which the gateway recognises the job's requests.

    Args:
        name: as `tunewright traffic ls` prints it.
        folder: of the project; it must not exist, or be empty.

    Raises:
        UserError: there is no such job, its answers are no kind of task, or the folder holds something.
    """
    require_free(folder)
    job = find_job(captures, name, DRAWN)
    if job.answer is None:
        raise UserError(
            f"No project can be made of '{name}': its answers are {job.form.kind}.",
            why=_left_out(job),
            fix="Projects choose labels, fill records, call tools or write texts.",
        )
    rows = list(_calls(job) if job.answer == "call" else _rows(job))
    if len(rows) < _LEAST:
        raise UserError(
            f"'{name}' has {len(rows)} rows with an answer that can be used; a project needs {_LEAST} at least.",
            where=captures,
            why=_left_out(job),
            fix="Capture more traffic first.",
        )
    data = folder / "data" / "train.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8", "surrogatepass")
    asked = next((model for model in job.models if model), "gpt-4o")
    model = name_in_book(price_book(), asked, job.answered.get(asked)) or asked
    in_rows = any(row[LOGGED].get("usage") for row in rows)
    paid = PaidToday(
        model=model,
        deployment=asked if asked != model else "",
        prompt_tokens=None if in_rows else _each(job.prompt_tokens, job.counted),
        completion_tokens=None if in_rows else _each(job.answer_tokens, job.counted),
        prompt=job.system,
        requests_per_month=max(1, round(job.requests * job.months)),
        is_recorded=True,
    )
    guess = guess_spec(data, folder.resolve(), paid)
    (folder / SPEC_FILE).write_text(guess.text, "utf-8")
    write_signature(folder, job.signature)
    return NewProject(folder, job, len(rows), guess)


def _left_out(job: TrafficJob) -> str:
    """The requests of a job whose answers can't be learnt from, in words; empty: there are none."""
    if not job.left_out:
        return ""
    listing = ", ".join(f"{code} ({count:,})" for code, count in job.left_out.items())
    return f"{sum(job.left_out.values()):,} were left out, because their answers can't be learnt from: {listing}."


def _each(tokens: float, counted: float) -> int | None:
    """Mean tokens of an answer that has counts; None: none has."""
    return max(1, round(tokens / counted)) if counted else None


def _rows(job: TrafficJob) -> Iterator[dict[str, Any]]:
    """The rows of a job. Answers of another form than the job's are left out."""
    assert job.answer
    column = _COLUMNS[job.answer]
    labels = set(job.form.names)
    for each in job.drawn:
        answer: Any = _text_of(each.choice, job)
        if column == "label":
            answer = label_in(answer, job.form.key)
        elif column == "record":
            answer = record_in(answer.strip())
        if not each.input or not answer or (column == "label" and answer not in labels):
            continue
        yield {"text": each.input, column: answer, LOGGED: _origin(each)}


def _calls(job: TrafficJob) -> Iterator[dict[str, Any]]:
    """The rows of a job of tool calls, in the chat form. The first names the tools, of which the spec is made."""
    tools = {"tools": job.tools} if job.tools else {}
    for each in job.drawn:
        message: dict[str, Any] = {"role": "assistant", "content": each.choice.text or None}
        if each.choice.tool_calls:
            message["tool_calls"] = [tool_call(call["name"], call["arguments"]) for call in each.choice.tool_calls]
        if each.input and (each.choice.tool_calls or each.choice.text.strip()):
            yield {"messages": [{"role": "user", "content": each.input}, message], LOGGED: _origin(each), **tools}
            tools = {}


def _origin(drawn: Drawn) -> dict[str, Any]:
    """Which API gave an answer when, how long it took, and the tokens that it counted."""
    known = {
        "model": drawn.model,
        "time": drawn.time,
        "seconds": drawn.seconds,
        "usage": drawn.usage and drawn.usage.row,
    }
    return {name: value for name, value in known.items() if value}


def _text_of(choice: AnswerChoice, job: TrafficJob) -> str:
    """An answer's text; of a job of one tool, the arguments of its one call."""
    if job.form.kind != "tool calls":
        return choice.text.strip()
    calls = [call["arguments"] for call in choice.tool_calls]
    return calls[0] if len(calls) == 1 else ""
