"""Fixing data: the fixed rows go to new files, with a log of every change. The original files stay as they are.

The rows to delete are chosen on the data as it is, before any change. Rows that no fix concerns come out as they were
read, in their order.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.artifacts import write_jsonl
from tunewright.core.errors import UserError
from tunewright.data.checks import KINDS
from tunewright.data.checks.copies import nearly_known, nearly_repeated_pairs, related_rows
from tunewright.data.checks.labels import preferred_spellings
from tunewright.data.checks.rows import STAND_INS, personal_data, row_checks, template_tokens, without_template_tokens
from tunewright.data.checks.scan import hash_of
from tunewright.data.checks.served import expected_prompt
from tunewright.data.checks.survey import Split, Survey, excerpt
from tunewright.data.examine import QUARANTINE, survey
from tunewright.data.job import Job
from tunewright.data.label_sets import respelled
from tunewright.data.mojibake import mojibake
from tunewright.data.readers import Fault, read_piece, write_chat
from tunewright.data.shown import shown
from tunewright.data.text import system_prompt
from tunewright.logs.beside import Neighbours
from tunewright.pii import Pseudonymiser
from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.base import Unfit

LOG = "fixes.jsonl"
_LOGGED = 200
"""Characters of a text that the log quotes, personal data masked."""

Edit = Callable[[Example], tuple[Example, dict[str, Any]] | None]
"""From an example to the fixed one and the details for the log; None where there is nothing to fix."""


@dataclass(frozen=True)
class Fixed:
    """The result of `fix`."""

    files: dict[str, Path]
    """The new file of each split."""
    changes: Counter[str]
    """Number of rows deleted or changed, by code."""


def fixable() -> dict[str, str]:
    """The codes that can be fixed automatically, each with its action."""
    return {code: kind.automatic_fix for code, kind in KINDS.items() if kind.automatic_fix}


def fix(job: Job, codes: Iterable[str], output: Path, pseudonymiser: Pseudonymiser | None = None) -> Fixed:
    """Write every split to a new chat JSONL file, with the fixes for some codes; `fixes.jsonl` lists each change.

    Corrections stay as they are, outside the new files. Rows that can't be read are in no new file: the log lists them
    as D009, and `quarantine/` keeps them, with D015 without their text.

    Args:
        output: a folder that is absent or empty.
        pseudonymiser: needed for D015.

    Raises:
        UserError: a code can't be fixed automatically, or the folder isn't empty.
    """
    requested = _checked(codes, pseudonymiser)
    job = replace(job, corrections=None)
    if output.exists() and any(output.iterdir()):
        raise UserError("This folder isn't empty; it was left as it is.", where=output, fix="Name another with --out.")
    log: list[dict[str, Any]] = []
    files = {}
    with _made(output), tempfile.TemporaryDirectory(dir=output, prefix=".survey-") as scratch:
        with survey(job, Path(scratch)) as surveyed:
            _require_rows(job, surveyed)
            edits = _edits(surveyed, requested, pseudonymiser)
            deletions = {name: _deletions(surveyed, name, requested) for name in surveyed.splits}
            _require_rest(surveyed, deletions["train"])
            write_jsonl(output / LOG, ())  # marks the folder as an output, in case it lies inside a source
            for name, deleted in deletions.items():
                files[name] = output / f"{name}.jsonl"
                write_chat(files[name], _fixed_rows(surveyed, name, deleted, edits, log), job.columns)
        quarantine = Path(scratch) / QUARANTINE
        if quarantine.exists():
            if "D015" in requested:
                _leave_out_texts(quarantine)
            quarantine.rename(output / QUARANTINE)
    write_jsonl(output / LOG, log)
    return Fixed(files, Counter(entry["code"] for entry in log))


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, which goes again if the body fails before it has written anything there."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # the folder is not empty
                folder.rmdir()
        raise


def _leave_out_texts(quarantine: Path) -> None:
    """Leave the text of each row out of the quarantine files.

    Personal data in it can't be found for sure, because it is cut off, damaged or full of escapes.
    """
    for file in quarantine.iterdir():
        with file.open(encoding="utf-8") as lines:
            rows = map(json.loads, lines)
            write_jsonl(file, ({key: value for key, value in row.items() if key != "raw"} for row in rows))


def _require_rows(job: Job, surveyed: Survey) -> None:
    if not len(surveyed.train.table):
        reasons = surveyed.train.faults.first
        raise UserError(
            "No row of the training data can be read, so there is nothing to fix.",
            where=job.sources["train"],
            why=reasons[0].reason if reasons else None,
            fix="Type: tunewright data check, with the same arguments.",
        )


def _require_rest(surveyed: Survey, deleted: Mapping[int, str]) -> None:
    if len(deleted) == len(surveyed.train.table):
        codes = ", ".join(f"{code} {count} rows" for code, count in Counter(deleted.values()).items())
        raise UserError(
            f"Nothing would be left to train on: {codes}.",
            fix="Fix fewer kinds at once, or name another test, of other groups, under data.test.",
        )


def _checked(codes: Iterable[str], pseudonymiser: Pseudonymiser | None) -> set[str]:
    requested = {code.strip().upper() for code in codes if code.strip()}
    unknown = sorted(requested - fixable().keys())
    if unknown or not requested:
        what = f"'{unknown[0]}' can't be fixed by a program." if unknown else "Name the findings to fix."
        why = KINDS[unknown[0]].fix if unknown and unknown[0] in KINDS else None
        fixes = "; ".join(f"{code} {action}" for code, action in fixable().items())
        raise UserError(what, why=why, fix=f"--only takes: {fixes}.")
    if "D015" in requested and pseudonymiser is None:
        raise UserError(
            "Stand-ins for personal data need a key of your own.",
            why="With the same key the same person gets the same stand-in in every file and every month.",
            fix="Type: head -c 32 /dev/urandom > pii.key && chmod 600 pii.key  and give it with --key-file pii.key",
        )
    return requested


def _fixed_rows(
    surveyed: Survey, name: str, deleted: Mapping[int, str], edits: Mapping[str, Edit], log: list[dict[str, Any]]
) -> Iterator[Example]:
    """The examples of a split that stay, fixed. Adds every change to the log."""
    row = -1
    job, neighbours = surveyed.job, Neighbours()
    for piece in surveyed.pieces[name]:
        for item in read_piece(piece, job.data.form, job.columns, neighbours):
            if isinstance(item, Fault):
                log.append(_entry("D009", "left out", name, item.where, {"reason": item.reason}))
            if not isinstance(item, Example):
                continue
            example, where = item, str(item.meta.source)
            row += bool(item.importance)  # the survey numbers no row of weight 0
            if item.importance and row in deleted:
                log.append(_entry(deleted[row], "deleted", name, where, {"text": excerpt(example)}))
                continue
            for code, edit in edits.items():
                if (edited := edit(example)) is not None:
                    example, details = edited
                    log.append(_entry(code, "changed", name, where, details))
            yield example


def _entry(code: str, action: str, split: str, where: str, details: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "action": action, "split": split, "where": where, **details}


def _deletions(surveyed: Survey, name: str, requested: set[str]) -> dict[int, str]:
    """The rows of a split to delete, each with the code of the reason.

    Rows with a reason of their own come first. Of the copies among the rest, the first stays.
    """
    split = surveyed.splits[name]
    deleted: dict[int, str] = {}

    def delete(rows: Iterable[int], code: str) -> None:
        for row in rows:
            deleted.setdefault(row, code)

    checks = row_checks(surveyed.job)
    for code in sorted(requested & {"D001", "D019", "D020"}):
        check = checks.get(code)
        if check and split.hits[code].rows:
            delete((row for row, example in enumerate(split.examples()) if check(example)), code)
    if "D006" in requested:
        delete(_outvoted(split), "D006")
    for test in surveyed.tests.values() if name == "train" else ():
        if "D008" in requested:
            delete(np.flatnonzero(np.isin(split.table.text, test.table.text)).tolist(), "D008")
        if "D012" in requested:
            delete([*nearly_known(test, split).rows.tolist(), *related_rows(test, split).tolist()], "D012")
    if "D007" in requested:
        for rows in _equal_rows(split):
            delete([row for row in rows if row not in deleted][1:], "D007")
    if "D011" in requested:
        delete(_near_rows(split, deleted), "D011")
    return deleted


def _outvoted(split: Split) -> list[int]:
    """Rows whose text has several answers, except those with its most frequent answer. A tie has no such answer."""
    rows_of: dict[int, list[int]] = {}
    for row, text in enumerate(split.table.text.tolist()):
        rows_of.setdefault(text, []).append(row)
    answers = split.table.answer
    outvoted: list[int] = []
    for rows in rows_of.values():
        (best, most), *others = Counter(answers[rows].tolist()).most_common()
        if others:
            tied = others[0][1] == most
            outvoted += [row for row in rows if tied or answers[row] != best]
    return outvoted


def _equal_rows(split: Split) -> Iterable[list[int]]:
    """Groups of rows with the same text and the same answer."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(zip(split.table.text.tolist(), split.table.answer.tolist(), strict=True)):
        groups.setdefault(key, []).append(row)
    return (rows for rows in groups.values() if len(rows) > 1)


def _near_rows(split: Split, deleted: Mapping[int, str]) -> list[int]:
    """Near copies of a row that stays, with the same answer. Where answers differ, a person must decide."""
    removed, answers = set(deleted), split.table.answer
    for pair in nearly_repeated_pairs(split):
        if answers[pair.first] == answers[pair.second] and removed.isdisjoint((pair.first, pair.second)):
            removed.add(pair.second)
    return sorted(removed - deleted.keys())


def _edits(surveyed: Survey, requested: set[str], pseudonymiser: Pseudonymiser | None) -> dict[str, Edit]:
    edits: dict[str, Edit] = {}
    if "D013" in requested:
        spellings = preferred_spellings(surveyed)
        edits["D013"] = lambda example: _respelled(example, surveyed.job.task, spellings)
    if "D016" in requested:
        edits["D016"] = _without_tokens
    if "D024" in requested:
        edits["D024"] = _restored
    if "D017" in requested:
        expected = expected_prompt(surveyed)
        edits["D017"] = lambda example: _without_system(example, expected)
    if "D015" in requested:
        assert pseudonymiser
        labels = frozenset(surveyed.labels)
        edits["D015"] = lambda example: _pseudonymised(example, pseudonymiser, surveyed.job.task, labels)
    return edits


def _respelled(
    example: Example, task: Task | None, spellings: Mapping[str, str]
) -> tuple[Example, dict[str, Any]] | None:
    best = respelled(task, example.answer, spellings)
    if best == example.answer:
        return None
    last = len(example.messages) - 1
    messages = [m.model_copy(update={"content": best}) if n == last else m for n, m in enumerate(example.messages)]
    return example.model_copy(update={"messages": messages}), {
        "before": shown(example.answer, _LOGGED),
        "after": shown(best, _LOGGED),
    }


def _without_tokens(example: Example) -> tuple[Example, dict[str, Any]] | None:
    if not (removed := template_tokens(example)):
        return None
    messages = [m.model_copy(update={"content": without_template_tokens(m.content)}) for m in example.messages]
    return example.model_copy(update={"messages": messages}), {"removed": removed}


def _restored(example: Example) -> tuple[Example, dict[str, Any]] | None:
    restored = [mojibake(message.content) for message in example.messages]
    if not any(restored):
        return None
    pairs = [(m.content, text) for m, text in zip(example.messages, restored, strict=True) if text is not None]
    messages = [
        message.model_copy(update={"content": text}) if text is not None else message
        for message, text in zip(example.messages, restored, strict=True)
    ]
    before, after = ([shown(text, _LOGGED) for text in texts] for texts in zip(*pairs, strict=True))
    return example.model_copy(update={"messages": messages}), {"before": before, "after": after}


def _without_system(example: Example, expected: int | None) -> tuple[Example, dict[str, Any]] | None:
    system = system_prompt(example)
    if not system or hash_of(system) == expected:
        return None
    return example.model_copy(update={"messages": example.messages[1:]}), {"removed": shown(system, _LOGGED)}


def _pseudonymised(
    example: Example, pseudonymiser: Pseudonymiser, task: Task | None, labels: frozenset[str]
) -> tuple[Example, dict[str, Any]] | None:
    """The example with stand-ins for personal data.

    The log holds only the kinds, never the data that was replaced. The row lists the kinds too, see STAND_INS. Labels
    stay, because the spec knows their names, and no kind is listed for them.
    """
    stays = _has_only_labels(task, example.answer, labels)
    if example.meta.extra.get(STAND_INS) and not personal_data(_to_replace(example, stays)):
        return None
    plain = example.model_dump()
    changed = _replaced(plain, pseudonymiser.replace)
    for key in ("id", "source", "time"):
        changed["meta"][key] = plain["meta"][key]
    if stays:
        changed["messages"][-1]["content"] = plain["messages"][-1]["content"]
    if changed == plain:
        return None
    changed["meta"]["extra"].pop(STAND_INS, None)
    kinds = personal_data(_to_replace(Example.model_validate(changed), stays))
    changed["meta"]["extra"][STAND_INS] = kinds
    return Example.model_validate(changed), {"replaced": kinds}


def _has_only_labels(task: Task | None, answer: str, labels: frozenset[str]) -> bool:
    """Whether an answer is one of the labels, or names some of them and nothing else."""
    if not isinstance(task, MultiLabelTask):
        return answer in labels
    try:
        task.parsed(answer)
    except Unfit:
        return False
    return labels.issuperset(str(name) for name in json.loads(answer))


def _to_replace(example: Example, answer_stays: bool) -> Example:
    """The example without the answer, if that stays."""
    if not answer_stays:
        return example
    *before, answer = example.messages
    return example.model_copy(update={"messages": [*before, answer.model_copy(update={"content": ""})]})


def _replaced(value: Any, replace: Callable[[str], str]) -> Any:
    """A JSON value with its texts, names and numbers replaced."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        named: dict[str, Any] = {}
        for name, inner in value.items():
            named[_unused(replace(name), named)] = _replaced(inner, replace)
        return named
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _replaced_number(value, replace)
    return [_replaced(inner, replace) for inner in value] if isinstance(value, list) else value


def _replaced_number(value: float, replace: Callable[[str], str]) -> float | str:
    """A number such as a card's with its stand-in, which is a text if it is no number."""
    text = str(value)
    if (stand_in := replace(text)) == text:
        return value
    try:
        return type(value)(stand_in)
    except ValueError:
        return stand_in


def _unused(name: str, names: Container[str]) -> str:
    """The name, with a number if it is among `names`, because two values may get the same stand-in."""
    unused, number = name, 1
    while unused in names:
        number += 1
        unused = f"{name} {number}"
    return unused
