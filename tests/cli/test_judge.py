"""`tunewright data judge`, with a server on this machine that plays the judge."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_cli import refused, tunewright
from tests.conftest import TOKENIZER
from tests.evaluation.large_model import LargeModel, large_model

pytestmark = pytest.mark.slow

SPEC = """\
name: replies
model: {tokenizer}
task: {{kind: generate, instruction: Answer this customer.}}
data: {{train: train.jsonl, test: {{new: test.jsonl}}, form: labelled}}
judge: {{model: large, priced_as: gpt-4o, url: "{url}", key: null}}
"""


@pytest.fixture
def model() -> Iterator[LargeModel]:
    with large_model(lambda message: "2" if "rude" in json.loads(message)["answer"] else "4") as large:
        yield large


@pytest.fixture
def project(model: LargeModel, tmp_path: Path) -> Path:
    for name in ("train", "test"):
        answers = [f"{'rude' if n % 5 == 0 else 'kind'} words about {name} parcel {n}" for n in range(20)]
        rows = [json.dumps({"text": f"{name}: where is {n}?", "label": said}) for n, said in enumerate(answers)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows), "utf-8")
    (tmp_path / "tunewright.yaml").write_text(SPEC.format(url=model.url, tokenizer=TOKENIZER), "utf-8")
    return tmp_path


def test_it_tells_the_cost_first_and_then_which_line_to_write(model: LargeModel, project: Path) -> None:
    dry = tunewright("data", "judge", project, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "20 different answers to mark, 0 of them marked before" in dry.stdout
    assert not model.asked
    done = tunewright("data", "judge", project)
    assert done.returncode == 0, done.stderr
    for said in (
        "puts 4 of 20 rows below 3: 20.0%",
        "2  train.jsonl:1  train: where is 0? → rude words",
        "Nobody has checked this judge",
        "train: judged/train.jsonl, and form: chat",
    ):
        assert said in done.stdout
    copy = ("data.train=judged/train.jsonl", "data.form=chat", "data.test={}")
    checked = json.loads(tunewright("data", "check", project, *copy, "--json").stdout)
    assert checked["rows"] == {"train": 16}
    assert "weight-0, 4 times" in " ".join(finding["what"] for finding in checked["findings"])


def test_a_refusal_comes_after_the_marks(project: Path) -> None:
    done = tunewright("data", "judge", project, "judge.least_mark=5")
    assert done.returncode == 2
    assert "puts 20 of 20 rows below 5" in done.stdout
    assert (
        done.stderr.strip().splitlines()[-1].startswith(f"Error: {project / 'judged' / 'marks.jsonl'}: The judge would")
    )
    assert "write into" not in done.stdout


def test_the_result_as_json(project: Path) -> None:
    done = tunewright("data", "judge", project, "--json", "--out", project / "there")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["left_out"], result["marks"]["2"]) == (20, 4, 4)
    assert (project / "there" / "train.jsonl").is_file()


def test_the_fix_that_it_names_is_of_the_data_it_would_send(project: Path) -> None:
    rows = (project / "train.jsonl").read_text("utf-8")
    (project / "two months.jsonl").write_text(rows.replace("where is 3?", "mail jane.doe@corp.test"), "utf-8")
    dry = tunewright("data", "judge", project, "data.train=two months.jsonl", "--dry-run")
    assert "1 rows hold personal data" in dry.stdout
    words = shlex.split(dry.stdout.rsplit("stand-ins: tunewright ", 1)[1])
    assert words == ["data", "fix", str(project), "data.train=two months.jsonl", "--only", "D015"]


def test_a_judge_without_a_price_is_named(project: Path) -> None:
    assert "judge.priced_as: The price book has no 'mine'" in refused(
        tunewright("data", "judge", project, "judge.priced_as=mine", "--dry-run")
    )
