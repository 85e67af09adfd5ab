"""The command line as a user types it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import make_spec, python, write_project
from tests.evaluation.made_report import PARITY
from tests.evaluation.scenario import candidate, compared, evidence_of
from tunewright import api
from tunewright.api.pipeline import bring_up_to_date
from tunewright.api.steps import _training_folder
from tunewright.cli import main
from tunewright.config import load_spec
from tunewright.core.artifacts import atomic_folder, partial_of
from tunewright.core.version import __version__
from tunewright.evaluation.report.page import verdict_data
from tunewright.evaluation.verdict.decision import decide
from tunewright.training.loop.soup_training import has_begun

pytestmark = pytest.mark.slow

ENTRY = "from tunewright.cli import main; main()"
VERBS = ("check", "split", "train", "export", "evaluate", "serve", "run")
HEAVY = ("torch", "transformers", "sklearn", "scipy", "onnxruntime", "openvino", "huggingface_hub")

COUNTED = (
    "import sys\nfrom tunewright.cli import main\n"
    "try: main()\n"
    f"finally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
)
"""The same, which then says which of those it has loaded."""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def tunewright(*arguments: object, **environment: str) -> Done:
    """The command's entry point, called in this process, where the libraries are loaded already."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["tunewright", *map(str, arguments)])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def refused(done: Done) -> str:
    """The one line a user error prints."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def test_help_answers_within_a_second() -> None:
    took = []
    for _ in range(3):
        started = time.perf_counter()
        assert python("-c", ENTRY, "--help").returncode == 0
        took.append(time.perf_counter() - started)
    # The best of three, as other work may hold the machine.
    assert min(took) < 1


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["spec", "schema"], ["models", "ls"]])
def test_a_quick_answer_loads_no_heavy_library(arguments: list[str]) -> None:
    assert python("-c", COUNTED, *arguments).stderr.strip() == "[]"


def test_a_command_loads_no_other_command() -> None:
    loaded = "finally: print(*(m for m in sys.modules if m.startswith('tunewright.cli.')), file=sys.stderr)"
    script = f"import sys\nfrom tunewright.cli import main\ntry: main()\n{loaded}"
    shown = python("-c", script, "keys", "ls", "/no/file").stderr.split()
    assert {name.split(".")[2] for name in shown if name.startswith("tunewright.cli.")} == {"app", "keys"}


def completions(typed: str, script: str = ENTRY) -> subprocess.CompletedProcess[str]:
    """What bash asks the command on a tab, and what it gets."""
    words = typed.split(" ")
    return python(
        "-c",
        f"import sys; sys.argv = ['tunewright']\n{script}",
        _TUNEWRIGHT_COMPLETE="complete_bash",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(words) - 1),
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tunewright in", ["init"]),
        ("tunewright data sp", ["split"]),
        ("tunewright init --ex", ["--example"]),
        ("tunewright init --example t", ["tickets"]),
        ("tunewright serve --eng", ["--engine"]),
    ],
)
def test_a_tab_completes_verbs_options_and_names(typed: str, offered: list[str]) -> None:
    assert completions(typed).stdout.split() == offered


def test_a_tab_loads_no_heavy_library() -> None:
    done = completions("tunewright init --example t", COUNTED)
    assert done.stdout.split() == ["tickets"]
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed_for_the_usual_shells(shell: str, tmp_path: Path) -> None:
    # The shell is taken from the processes above, or in a test from this variable, which names it.
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = python("-c", f"import sys; sys.argv[0] = 'tunewright'\n{ENTRY}", "--show-completion", shell, **told)
    assert (shown.returncode, "_TUNEWRIGHT_COMPLETE" in shown.stdout) == (0, True)
    done = python("-c", f"import sys; sys.argv[0] = 'tunewright'\n{ENTRY}", "--install-completion", shell, **told)
    assert (done.returncode, done.stderr) == (0, "")
    written = [file.read_text("utf-8") for file in tmp_path.rglob("*") if file.is_file()]
    assert any("_TUNEWRIGHT_COMPLETE" in text for text in written)


def test_importing_the_package_loads_no_heavy_library() -> None:
    script = f"import sys, tunewright as tw; tw.load_spec; print([m for m in {HEAVY} if m in sys.modules])"
    assert python("-c", script).stdout.strip() == "[]"


def test_no_package_stands_in_the_place_of_the_function_of_its_name() -> None:
    script = (
        "import pkgutil, importlib, tunewright as tw\n"
        "for each in pkgutil.iter_modules(tw.__path__): importlib.import_module(f'tunewright.{each.name}')\n"
        f"print(*(type(getattr(tw, verb)).__name__ for verb in {VERBS}))"
    )
    assert python("-c", script).stdout.split() == ["function"] * len(VERBS)


def test_help_lists_every_verb() -> None:
    shown = tunewright("--help").stdout
    for verb in ("init", "doctor", "run", "data", "train", "export", "evaluate", "serve", "spec", "models"):
        assert f" {verb} " in shown


@pytest.mark.parametrize("verb", ["init", "doctor", "run", "data", "train", "export", "evaluate", "serve"])
def test_every_verb_has_help(verb: str) -> None:
    done = tunewright(verb, "-h")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_version() -> None:
    done = tunewright("--version")
    assert (done.returncode, done.stdout) == (0, f"tunewright {__version__}\n")


def test_an_unknown_key_is_refused_with_the_nearest(project: Path) -> None:
    write_project(project, train={"epoch": 3})
    assert "unknown key 'train.epoch', did you mean 'epochs'?" in refused(tunewright("run", project))


def test_an_unknown_key_in_an_override_is_refused_with_the_nearest(project: Path) -> None:
    assert "did you mean 'few_shot'?" in refused(tunewright("run", project, "evaluate.fewshot=2"))


def test_an_unknown_step_is_refused_before_anything_runs(project: Path) -> None:
    assert "There is no step 'tain'" in refused(tunewright("run", project, "--from", "tain"))
    assert not (project / "runs").exists()


def test_an_unknown_verb_exits_with_2() -> None:
    done = tunewright("fly")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_spec_show_takes_overrides(project: Path) -> None:
    assert json.loads(tunewright("spec", "show", project, "train.lr=1e-4").stdout)["train"]["lr"] == 1e-4


def test_spec_schema_is_valid_json() -> None:
    schema = json.loads(tunewright("spec", "schema").stdout)
    assert {"name", "task", "data"} <= set(schema["required"])


def test_data_checks_and_splits_and_says_where(project: Path) -> None:
    done = tunewright("data", "split", project, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["train"], answer["validation"], answer["test"]) == (66, 6, 18)
    assert (Path(answer["folder"]) / "train.jsonl").is_file()


def test_data_a_second_time_reuses_both_steps(project: Path) -> None:
    tunewright("data", "split", project)
    assert tunewright("data", "split", project).stderr.count("unchanged, reused") == 2


def test_an_error_of_a_step_is_the_commands_own(project: Path) -> None:
    (project / "train.jsonl").write_text('{"text": "x"}\n')
    done = tunewright("data", "split", project)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: {project / 'train.jsonl'}:1: The data can't be used: D009")
    assert "match no known form" in last


def test_there_is_nothing_to_resume_before_anything_was_begun(project: Path) -> None:
    done = tunewright("train", str(project), "--resume")
    assert done.returncode == 2
    assert "There is no training to continue." in done.stderr
    assert not list(project.glob("runs/train-*"))


def test_an_empty_folder_of_checkpoints_is_nothing_to_resume(project: Path) -> None:
    spec = load_spec(project)
    folder = _training_folder(spec, bring_up_to_date(spec, "split"), "train")
    first = partial_of(folder) / "checkpoints" / "member-0"
    first.mkdir(parents=True)
    assert "There is no training to continue." in tunewright("train", project, "--resume").stderr
    (first / "checkpoint-2").mkdir()
    (first / "checkpoint-2" / "trainer_state.json").write_text('{"cut', "utf-8")
    assert not has_begun(first.parent)
    (first / "checkpoint-2" / "trainer_state.json").write_text("{}", "utf-8")
    assert has_begun(first.parent)


def test_a_misspelt_model_is_told_before_the_data_are_read(project: Path) -> None:
    assert "Did you mean 'phi-3-mini'?" in refused(tunewright("train", project, "model=phi-3-mni"))
    assert not (project / "runs").exists()


@pytest.mark.parametrize("options", [["--trials", "3"], ["--sweep", "--resume"], ["--sweep", "--force"]])
def test_options_of_train_that_mean_nothing_together_are_refused(options: list[str], project: Path) -> None:
    refused(tunewright("train", project, *options))


def test_a_training_is_not_both_continued_and_begun_anew(project: Path) -> None:
    assert "--resume and --force don't go together" in refused(tunewright("train", project, "--resume", "--force"))


@pytest.mark.parametrize(("option", "key"), [("--promote", "promoted"), ("--rollback", "rolled_back")])
def test_the_end_of_a_canary_as_json(option: str, key: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "conclude", lambda *_, **__: "tickets--v2")
    done = tunewright("deploy", project, "--to", "aca", option, "--json")
    assert json.loads(done.stdout) == {key: {"project": "tickets", "target": "aca", "version": "tickets--v2"}}
    assert tunewright("deploy", project, "--to", "aca", option).stdout == ""


@pytest.mark.parametrize(("typed", "meant"), [("assess fti", "fit"), ("gateway leger", "ledger")])
def test_a_misspelt_command_is_not_taken_for_a_file(
    typed: str, meant: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, word = typed.split()
    line = refused(tunewright(group, word, project))
    assert f"'{word}' is neither a command nor a path that exists. Did you mean '{meant}'?" in line
    monkeypatch.chdir(project)
    Path(word).mkdir()
    assert "neither a command" not in refused(tunewright(group, word)), "it is there"
    assert "neither a command" not in refused(tunewright(group, "absent/folder"))


@pytest.mark.parametrize("name", ["tunewright.yaml", "mine.yaml"])
@pytest.mark.parametrize("verb", ["serve SPEC", "batch SPEC in.jsonl out.jsonl", "adapters add models SPEC"])
def test_a_spec_in_the_place_of_a_folder_is_one_paragraph(
    verb: str, name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    Path("in.jsonl").write_text('{"text": "x"}\n', "utf-8")
    spec = project / "tunewright.yaml"
    spec = spec.rename(project / name)
    words = [str(spec) if word == "SPEC" else word for word in verb.split()]
    latest = project / "runs" / "latest"
    if name != "tunewright.yaml":
        assert f"Type: tunewright export {spec}" in refused(tunewright(*words))
        with atomic_folder(
            latest / "export", kind="export", fingerprint="f", spec_sha256="s", inputs={}, seed=0, code_version="1"
        ):
            pass
    folder = project if name == "tunewright.yaml" else latest / "export" / "bundle"
    line = refused(tunewright(*words))
    assert line.endswith(f"{spec}: This is a file; a bundle or a project is a folder. Name this folder: {folder}")


def test_what_a_run_prints_to_measure_an_api_is_the_command_that_was_typed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = (project / "tunewright.yaml").rename(project / "mine.yaml")
    evidence, judged = evidence_of(candidate(0.7), candidate(0.6)), make_spec()
    comparison = compared(judged, evidence)
    verdict = replace(decide(judged, comparison, evidence, parity_passed=True), measure="apis+={model: x, url: openai}")
    data = json.loads(json.dumps(verdict_data(judged, comparison, verdict, PARITY)))
    html, bundle = project / "report.html", project / "bundle"
    report = SimpleNamespace(
        data=data, html=html, bundle=bundle, ladder=None, candidates=None, require_gates=lambda: None
    )
    monkeypatch.setattr(api, "run", lambda *_, **__: report)
    options = ["--recipe", "smollm2-135m-cpu", "--runs", str(tmp_path / "o"), "--allow-code"]
    done = tunewright("run", spec, "seed=2", *options, "--all")
    assert done.returncode == 0, done.stderr
    command = shlex.join(["run", str(spec), "seed=2", *options, "--all", data["verdict"]["measure"]])
    assert f"Measure: tunewright {command}\n" in done.stdout


def test_export_and_evaluate_take_the_recipe_that_was_trained(project: Path) -> None:
    for verb in ("export", "evaluate"):
        assert "There is no recipe 'phi'" in refused(tunewright(verb, project, "--recipe", "phi"))


def test_a_project_without_a_bundle_is_not_served(project: Path) -> None:
    assert f"Type: tunewright export {project}" in refused(tunewright("serve", project))


def test_doctors_exit_code_says_whether_every_check_passed(project: Path, tmp_path: Path) -> None:
    done = tunewright("doctor", project, "--json", TUNEWRIGHT_CACHE=str(tmp_path))
    checks = json.loads(done.stdout)
    assert done.returncode == (0 if all(check["passed"] for check in checks) else 1)
    assert {"Python", "memory", "disk", "spec", "data files", "base model"} <= {check["name"] for check in checks}


def test_doctor_gives_a_remedy_for_each_fault(project: Path) -> None:
    (project / "train.jsonl").unlink()
    done = tunewright("doctor", project)
    assert done.returncode == 1
    assert "train.jsonl: There is no such data file." in done.stdout
    assert "Check the path, or those under `data:` in the spec." in done.stdout


def test_doctor_shows_what_is_wrong_with_a_spec(project: Path) -> None:
    write_project(project, train={"epoch": 3})
    done = tunewright("doctor", project, "--json")
    assert done.returncode == 1
    (fault,) = [check for check in json.loads(done.stdout) if check["name"] == "spec"]
    assert not fault["passed"]
    assert "did you mean 'epochs'?" in fault["found"]


def test_doctor_looks_for_the_extras_that_a_spec_asks_for(project: Path) -> None:
    names = {check["name"] for check in json.loads(tunewright("doctor", project, "--json").stdout)}
    assert "extra [api]" not in names
    write_project(project, judge={"model": "gpt-4o"}, data={"train": "train.jsonl", "document": "file"})
    asked = {check["name"] for check in json.loads(tunewright("doctor", project, "--json").stdout)}
    assert asked - names == {"extra [api]", "extra [documents]"}


def test_doctor_says_when_torch_does_not_see_the_gpu_whose_driver_is_here(tmp_path: Path) -> None:
    import torch

    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    checks = json.loads(tunewright("doctor", "--json", PATH=f"{tmp_path}:{os.environ['PATH']}").stdout)
    assert [check["passed"] for check in checks if check["name"] == "GPU"] == [torch.cuda.is_available()]


@pytest.mark.parametrize("model", ["absent.gguf", "./absent", "nonsense", "phi-3-small"])
def test_doctor_does_not_pass_a_model_that_no_run_can_load(model: str, project: Path) -> None:
    write_project(project, model=model)
    checks = json.loads(tunewright("doctor", project, "--json").stdout)
    assert [check["passed"] for check in checks if check["name"] == "base model"] == [False]


def test_models_ls_lists_the_catalogue() -> None:
    shown = tunewright("models", "ls").stdout
    assert "smollm2-135m" in shown
    assert "microsoft/Phi-3-mini-4k-instruct" in shown
    assert set(json.loads(tunewright("models", "ls", "--json").stdout)) >= {"smollm2-135m", "phi-3-mini"}


def test_models_ls_and_show_tell_encoders_from_decoders() -> None:
    lines = {line.split()[0]: line.split() for line in tunewright("models", "ls").stdout.splitlines()}
    assert (lines["name"][1], lines["all-minilm"][1], lines["smollm2-135m"][1]) == ("kind", "encoder", "decoder")
    shown = {
        name: json.loads(tunewright("models", "show", name, "--json").stdout) for name in ("bert-base", "phi-3-mini")
    }
    assert not {"template", "shape", "remote_code"} & set(shown["bert-base"])
    assert "embeddings" not in shown["phi-3-mini"]


def test_doctor_says_that_an_encoder_can_t_write(project: Path) -> None:
    write_project(project, model="all-minilm", task={"kind": "generate", "instruction": "Answer."})
    checks = json.loads(tunewright("doctor", project, "--json").stdout)
    (found,) = [check for check in checks if check["name"] == "base model"]
    assert not found["passed"]
    assert "can't write" in found["found"]


def test_models_show_shows_one(tmp_path: Path) -> None:
    shown = json.loads(tunewright("models", "show", "smollm2-135m", "--json", TUNEWRIGHT_CACHE=str(tmp_path)).stdout)
    assert (shown["licence"], shown["cached"]) == ("Apache-2.0", None)


def test_models_show_of_a_misspelt_name_offers_the_nearest() -> None:
    assert "Did you mean 'smollm2-135m'?" in refused(tunewright("models", "show", "smollm2-135"))


def test_models_prices_shows_the_price_book() -> None:
    shown = tunewright("models", "prices").stdout
    assert re.search(r"\d days? old", shown)
    assert "openai 2027-01-14" in shown or "openai ended 2027-01-14" in shown
    assert {"gpt-6-luna", "claude-haiku-5-5"} <= json.loads(tunewright("models", "prices", "--json").stdout)[
        "apis"
    ].keys()
