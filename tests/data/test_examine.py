"""One pass over the parts of the data: the findings depend neither on the process that reads a part nor on the cuts."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TOKENIZER
from tests.pipeline.made import encoder_folder
from tunewright.config import file_spec
from tunewright.core import workers
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.dataset import load_examples
from tunewright.data.examine import EXAMPLES, FINDINGS, QUARANTINE, REPORT, SUSPECTS, Examination, examine
from tunewright.data.job import Job, job_of_files
from tunewright.data.readers import Note, read, read_piece
from tunewright.data.readers import parts as parts_module
from tunewright.data.readers.parts import parts
from tunewright.data.readers.sources import files
from tunewright.data.splits.frozen import NOTHING, read_frozen, write_version
from tunewright.tasks import ClassifyTask, Example

WORDS = ["parcel", "kettle", "garden", "window", "ladder", "candle", "basket", "bridge", "pocket", "mirror"]


def rows(count: int) -> list[str]:
    """Lines of labelled rows with repeats, near repeats, conflicts, personal data, and some that can't be read."""
    lines = []
    for n in range(count):
        m = n - 30 if n % 20 == 7 and n > 30 else n - 20 if n % 20 == 8 and n > 20 else n
        text = " ".join(WORDS[(m * k + k) % 10] for k in range(1, 9)) + f" {m // 2}"
        label = ["billing", "refund", "Refunds"][n % 3 if n % 11 else 2]
        line = json.dumps({"text": text + (f" a{n}@b.example" if n % 13 == 0 else ""), "label": label, "agent": "x"})
        lines.append(line[:-9] if n % 17 == 3 else "" if n % 19 == 5 else line)
    return lines


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(rows(400)) + "\n", "utf-8")
    return path


def job(data: Path, *overrides: str) -> Job:
    return job_of_files(file_spec(data, [f"model={TOKENIZER}", "train.max_length=90", *overrides]))


@pytest.mark.parametrize(
    ("max_length", "longer", "fix"),
    [
        (50, "train.max_length = 50 tokens", "Set train.max_length="),
        (512, "the 128 tokens that the encoder reads", "or choose an encoder that reads more"),
    ],
)
def test_a_text_that_an_encoder_does_not_read_is_found_with_the_limit_that_it_breaks(
    max_length: int, longer: str, fix: str, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": "a " * 140, "label": "b"}) + "\n", "utf-8")
    model = encoder_folder(tmp_path / "bert")
    limited = job_of_files(file_spec(data, [f"model={model}", f"train.max_length={max_length}"]))
    (finding,) = (each for each in examine(limited, tmp_path).findings if each.code == "D020")
    assert f"are longer than {longer}; the longest" in finding.what
    assert fix in finding.fix


def examined(data: Path, out: Path) -> Examination:
    out.mkdir()
    return examine(job(data), out)


def written(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_everything_is_written_and_nothing_is_left_over(data: Path, tmp_path: Path) -> None:
    found = examined(data, tmp_path / "out")
    names = {FINDINGS, REPORT, f"{EXAMPLES}/train.jsonl", f"{QUARANTINE}/train.jsonl"}
    assert set(written(tmp_path / "out")) - {SUSPECTS} == names
    assert found.rows["train"] == len(read_jsonl(tmp_path / "out" / EXAMPLES / "train.jsonl"))
    assert found.rows["train"] + found.quarantined == sum(line != "" for line in rows(400))
    codes = {finding.code for finding in found.findings}
    assert {"D006", "D007", "D009", "D013", "D015", "D019", "D023"} <= codes


@pytest.mark.slow
def test_the_output_does_not_depend_on_the_process_that_reads_a_part(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = examined(data, tmp_path / "whole")
    monkeypatch.setattr(parts_module, "PART", 4000)
    monkeypatch.setattr(
        "tunewright.data.examine.PART", 0
    )  # so that the data counts as large enough for several processes
    assert len(parts(files(data))) > 5
    assert examined(data, tmp_path / "cores") == whole
    monkeypatch.setattr(workers, "cores", lambda: 1)
    assert examined(data, tmp_path / "alone") == whole
    assert written(tmp_path / "whole") == written(tmp_path / "cores") == written(tmp_path / "alone")


def test_missing_ray_is_one_paragraph(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match="Ray is not installed"):
        examined(data, tmp_path / "out")


lines = st.lists(
    st.sampled_from(
        [
            '{"text": "a", "label": "b"}',
            '{"text": "é\u2028x", "label": "b"}',
            '{"text": "cut',
            "",
            "  ",
            "[1]",
            "null",
            '{"text": "a", "label": "b"}\r',
            '{"messages": []}',
            '{"text": "a", "text": "b", "label": "c"}',
        ]
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=lines, part=st.integers(1, 200), final=st.booleans())
def test_a_file_read_in_parts_gives_the_same_as_read_whole(
    lines: list[str], part: int, final: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fault covers all lines of a broken row, so with parts there may be two faults."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(("\n".join(['{"text": "first", "label": "b"}', *lines]) + "\n" * final).encode())
    monkeypatch.setattr(parts_module, "PART", part)
    whole: list[Any] = [item for item in read(path) if not isinstance(item, Note)]
    cut: list[Any] = [
        item
        for pieces in parts(files(path))
        for piece in pieces
        for item in read_piece(piece, None, None)
        if not isinstance(item, Note)
    ]
    if '{"text": "cut' in lines:
        whole, cut = ([item for item in items if not hasattr(item, "raw")] for items in (whole, cut))
    assert cut == whole


def test_many_small_files_are_read_together(tmp_path: Path) -> None:
    for n in range(50):
        (tmp_path / f"{n:02d}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (pieces,) = parts(files(tmp_path))
    assert [piece.file.name for piece in pieces] == [f"{n:02d}.jsonl" for n in range(50)]


def test_a_note_on_a_whole_file_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.jsonl"
    lines = [json.dumps({"text": f"a{n}", "label": "b", "z": 1}) for n in range(99)]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    monkeypatch.setattr(parts_module, "PART", 500)
    (tmp_path / "out").mkdir()
    found = examine(job(path), tmp_path / "out").findings
    assert [f.count for f in found if f.code == "D010"] == [1]


@pytest.mark.slow
def test_a_line_in_another_format_loses_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps({"text": "a" * 60, "label": "b"}).encode()
    for odd in (b"\x00x", b"\x1f\x8bxx", b"\xef\xbb\xbf" + good, b"PAR1"):
        path = tmp_path / "d.jsonl"
        path.write_bytes(b"\n".join([*[good] * 40, odd, *[good] * 40]) + b"\n")
        for part in range(len(good) * 39, len(good) * 43, 7):
            monkeypatch.setattr(parts_module, "PART", part)
            items = [
                item for pieces in parts(files(path)) for piece in pieces for item in read_piece(piece, None, None)
            ]
            assert sum(isinstance(item, Example) for item in items) == 80


def test_rows_of_an_array_in_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps([{"text": f"text {n}", "label": "b"} for n in range(5)]))
    (tmp_path / "out").mkdir()
    examine(job(path), tmp_path / "out")
    ids = [row["meta"]["id"] for row in read_jsonl(tmp_path / "out" / EXAMPLES / "train.jsonl")]
    assert ids == ["train-1", "train-1.1", "train-1.2", "train-1.3", "train-1.4"]


def traced(name: str, *failed: bool) -> dict[str, Any]:
    """A trace of Langfuse with a call for each of `failed`."""
    calls = [
        {
            "id": f"{name}{number}",
            "traceId": name,
            "startTime": "2026-11-28T09:14:03.120Z",
            "parentObservationId": None,
            "type": "GENERATION",
            "level": "ERROR" if fails else "DEFAULT",
            "model": "gpt-5-mini",
            "input": [{"role": "user", "content": f"Where is parcel {name} {number}?"}],
            "output": {"role": "assistant", "content": "delivery"},
        }
        for number, fails in enumerate(failed)
    ]
    return {"id": name, "timestamp": "2026-11-28T09:14:03Z", "htmlPath": "/t", "observations": calls}


def checked(path: Path, content: Any) -> list[Example]:
    """The examples of a check of one file."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    out = path.with_suffix(".out")
    out.mkdir()
    examine(job(path), out)
    return load_examples(out / EXAMPLES / "train.jsonl")


@pytest.mark.parametrize("is_page", [True, False])
def test_calls_of_several_rows_in_one_line_have_ids_of_their_own(is_page: bool, tmp_path: Path) -> None:
    traces = [traced("A", False, False), traced("B", False, True, False), traced("C", False)]
    examples = checked(tmp_path / "d.json", {"data": traces, "meta": {}} if is_page else traces)
    ids = [example.meta.id for example in examples]
    assert ids == ["train-1", "train-1.1", "train-1.2", "train-1.3", "train-1.4"]
    write_version(tmp_path / "frozen", NOTHING, NOTHING.extended({"test": examples}, [], None), None)
    assert read_frozen(tmp_path / "frozen").parts == {"test": examples}


def test_the_id_of_a_call_is_its_place_in_its_row(tmp_path: Path) -> None:
    traces = [traced("A", False, True, False), traced("B", True, False)]
    examples = checked(tmp_path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in traces))
    assert [example.meta.id for example in examples] == ["train-1", "train-1.2", "train-2.1"]


def test_a_json_file_beside_the_data_that_is_not_read_is_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.jsonl", "b.json"):
        (folder / name).write_text('{"text": "a", "label": "b"}\n')
    for name in ("c.json", "d.json"):
        (folder / name).write_text('[{"body": "a", "queue": "b"}]')
    found = examined(folder, tmp_path / "out")
    assert found.rows == {"train": 2}
    (remark,) = (finding for finding in found.findings if "left-out" in finding.what)
    assert (remark.code, remark.count) == ("D010", 2)
    assert [place.where for place in remark.examples] == ["c.json:1", "d.json:1"]


def test_a_command_in_a_projects_findings_does_not_depend_on_the_folder_of_the_data(tmp_path: Path) -> None:
    reasons = []
    for place in ("here", "over there"):
        path = tmp_path / place / "my data.jsonl"
        path.parent.mkdir()
        path.write_bytes(b'{"text": "a", "label": "b"}\n{"text": "\xfc", "label": "b"}\n')
        bare = job(path)
        for task in (None, ClassifyTask("Which?", {"b": "", "c": ""})):
            (tmp_path / f"out {place} {task is None}").mkdir()
            found = examine(replace(bare, task=task), tmp_path / f"out {place} {task is None}")
            (finding,) = (each for each in found.findings if each.code == "D009")
            reasons.append(finding.what.rpartition("UTF-8 ")[2].partition(" > ")[0])
    assert reasons[1::2] == ["'my data.jsonl'"] * 2
    assert reasons[::2] == [f"'{tmp_path / place / 'my data.jsonl'}'" for place in ("here", "over there")]


@pytest.mark.slow
def test_the_output_of_a_check_is_no_source(data: Path) -> None:
    folder = data.parent
    first = examined(folder, folder / "data-check")
    again = examine(job(folder), folder / "data-check")
    assert first.rows == again.rows


@pytest.mark.slow
def test_nothing_of_an_earlier_check_is_left(data: Path, tmp_path: Path) -> None:
    examined(data, tmp_path / "out")
    clean = tmp_path / "clean.jsonl"
    clean.write_text('{"text": "a", "label": "b"}\n')
    found = examine(job(clean), tmp_path / "out")
    assert found.quarantined == 0
    assert set(written(tmp_path / "out")) == {FINDINGS, REPORT, f"{EXAMPLES}/train.jsonl"}


def test_a_loss_of_unknown_size_is_an_error_even_if_losses_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(line for line in rows(400) if line).encode())[:-400])
    (tmp_path / "out").mkdir()
    found = examine(job(path, "data.max_unreadable=0.9"), tmp_path / "out")
    assert [finding.severity for finding in found.findings if finding.code == "D009"] == ["error"]


ONE = '{"text": "where is my parcel", "label": "delivery"}'


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param([ONE] * 60 + ['{"text": "the "blue" kettle", "label": "delivery"}'] + [ONE] * 200, id="quote"),
        pytest.param([ONE] * 60 + ['{"text": NaN, "label": "delivery"}'] + [ONE] * 200, id="NaN"),
        pytest.param([ONE] * 60 + ['{"text": "the blue', ""], id="cut off"),
        pytest.param(
            [ONE] * 60 + ['{"text": "the blue kettle", "label": "x"}] [' + ONE] + [ONE] * 200, id="two arrays"
        ),
    ],
)
def test_an_array_that_breaks_midway_is_an_error_even_if_losses_are_allowed(
    elements: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "d.json"
    path.write_text(f"[{', '.join(elements)}]", "utf-8")
    (tmp_path / "out").mkdir()
    found = examine(job(path, "data.max_unreadable=0.5"), tmp_path / "out")
    (finding,) = (finding for finding in found.findings if finding.code == "D009")
    assert finding.severity == "error"
    assert "others may be lost with them" in finding.what


def test_two_objects_in_a_line_are_an_error_even_if_losses_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(f"{line}\n" for line in [*[ONE] * 60, ONE * 200]), "utf-8")
    (tmp_path / "out").mkdir()
    found = examine(job(path, "data.max_unreadable=0.5"), tmp_path / "out")
    assert [finding.severity for finding in found.findings if finding.code == "D009"] == ["error"]


def test_a_line_of_another_encoding_is_one_lost_row(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"".join(line.encode("latin-1") + b"\n" for line in [*[ONE] * 60, ONE.replace("my", "meïn")]))
    (tmp_path / "out").mkdir()
    found = examine(job(path, "data.max_unreadable=0.5"), tmp_path / "out")
    (finding,) = (finding for finding in found.findings if finding.code == "D009")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.what.startswith("train: 1 of 61 rows can't be read: encoding (1).")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param('{"text": "a", "label": "b", "weight": 0}', "D010", id="weight 0"),
        pytest.param('{"input": "a", "output": {"error": {"code": "rate_limit_exceeded"}}}', "D032", id="failed calls"),
    ],
)
def test_what_leaves_no_row_is_an_error(line: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f"{line}\n" * 40, "utf-8")
    (tmp_path / "out").mkdir()
    found = examine(job(path), tmp_path / "out")
    (finding,) = (finding for finding in found.findings if finding.code == code)
    assert (found.rows["train"], finding.severity) == (0, "error")
    assert finding.what.endswith("; no row is left")
