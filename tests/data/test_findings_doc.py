"""docs/findings.md: an example has the finding before and not after, and an automatic fix turns one into the other."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import TOKENIZER
from tunewright.config import file_spec
from tunewright.config.tool_list import tool_list
from tunewright.core.artifacts import read_jsonl
from tunewright.data.checks import KINDS, SEVERITIES
from tunewright.data.examine import examine
from tunewright.data.fix import fix
from tunewright.data.job import Job, job_of_files
from tunewright.data.readers import Columns, read
from tunewright.pii import Pseudonymiser
from tunewright.tasks import ClassifyTask, Example, MultiLabelTask, Task
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.tools import ToolsTask

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
SECTION = re.compile(r"^### (D\d+) (.+?) \((.+?)\)\n(.*?)(?=^### |\Z)", re.M | re.S)
SECTIONS = {match[1]: match for match in SECTION.finditer(PAGE.read_text("utf-8"))}
SHOWN = {code: match[4] for code, match in SECTIONS.items() if "```diff" in match[4]}


@dataclass
class Sample:
    """One example of the page, before or after."""

    files: dict[str, list[str]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def job(self, folder: Path) -> Job:
        folder.mkdir()
        for name, lines in self.files.items():
            (folder / name).write_text("".join(line + "\n" for line in lines), "utf-8")
        overrides = [f"{key}={value}" for key, value in self.settings.items() if key.startswith("train.")]
        tests = [f"data.test.test={folder / 'test.jsonl'}"] if "test.jsonl" in self.files else []
        limit = [f"model={TOKENIZER}"] if overrides else []
        base = job_of_files(file_spec(folder / "train.jsonl", [*overrides, *tests, *limit]))
        labels, schema = self.settings.get("labels"), self.settings.get("schema")
        task: Task | None = ClassifyTask("Which team?", dict.fromkeys(labels.split(", "), "")) if labels else None
        task = ExtractTask("Read.", json.loads(schema)) if schema else task
        if tools := self.settings.get("tools"):
            task = ToolsTask("Help.", tool_list(json.loads(tools), folder))
        if several := self.settings.get("several"):
            task = MultiLabelTask("Which hold?", dict.fromkeys(several.split(", "), ""))
        return Job(base.data, base.sources, task, base.limit, base.limit_unknown, base.goal)


def samples(code: str) -> tuple[Sample, Sample]:
    before, after = Sample(), Sample()
    name = ""
    (block,) = re.findall(r"```diff\n(.*?)```", SHOWN[code], re.S)
    for line in block.splitlines():
        if line.startswith("# ") and line.endswith(".jsonl"):
            name = line[2:]
        elif line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            before.settings[key] = after.settings[key] = value
        else:
            for sample, marks in ((before, " -"), (after, " +")):
                lines = sample.files.setdefault(name, [])
                if line[0] in marks:
                    lines.append(line[2:])
    return before, after


def codes(job: Job, out: Path) -> list[str]:
    out.mkdir()
    return [finding.code for finding in examine(job, out).findings]


def rows_of(path: Path) -> list[tuple[str, str]]:
    return [(e.request, e.answer) for e in read(path, columns=Columns()) if isinstance(e, Example)]


@pytest.mark.slow
@pytest.mark.parametrize("code", [code for code in SHOWN if "# differs" not in SHOWN[code]])
def test_the_finding_is_there_before_and_gone_after(code: str, tmp_path: Path) -> None:
    before, after = samples(code)
    assert code in codes(before.job(tmp_path / "before"), tmp_path / "found-before")
    assert code not in codes(after.job(tmp_path / "after"), tmp_path / "found-after")


@pytest.mark.parametrize("code", [code for code in SHOWN if "fixed by a program" in SECTIONS[code][3]])
def test_the_fix_turns_before_into_after(code: str, tmp_path: Path) -> None:
    before, after = samples(code)
    after.job(tmp_path / "after")
    fixed = fix(before.job(tmp_path / "before"), [code], tmp_path / "out", Pseudonymiser(b"0123456789abcdef"))
    assert fixed.changes.keys() == {code}
    again = Sample({path.name: path.read_text("utf-8").splitlines() for path in fixed.files.values()}, before.settings)
    assert code not in codes(again.job(tmp_path / "again"), tmp_path / "found")
    for name, path in fixed.files.items():
        same = rows_of(path) == rows_of(tmp_path / "after" / f"{name}.jsonl")
        assert same != ("differs" in before.settings), read_jsonl(path)


def test_the_page_has_every_kind_of_finding_with_its_title() -> None:
    assert list(SECTIONS) == list(KINDS)
    for code, match in SECTIONS.items():
        assert match[2] == KINDS[code].title
        assert match[3].startswith(SEVERITIES)
        assert ("fixed by a program" in match[3]) == bool(KINDS[code].automatic_fix and code != "D009"), code
