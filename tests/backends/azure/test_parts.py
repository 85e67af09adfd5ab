"""Parts of the Azure side that can be told without it."""

from __future__ import annotations

import io
import tarfile
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob
from tests.conftest import make_spec
from tunewright.api.pipeline import bring_up_to_date
from tunewright.backends.azure import machines
from tunewright.backends.azure.assets import package, pinned
from tunewright.backends.azure.backend import AzureBackend, stays_here
from tunewright.backends.azure.follow import sparkline
from tunewright.backends.azure.jobs import JobWork, job_of
from tunewright.backends.azure.rules import is_allowed
from tunewright.backends.azure.workspace import workspace_of
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import UserError
from tunewright.models.device import GPU
from tunewright.pipeline.fingerprint import lineage_hashes
from tunewright.pipeline.runner import PipelineResult, due
from tunewright.pipeline.steps import STEPS, steps_to


def test_a_role_allows_by_patterns_and_takes_out() -> None:
    run = "Microsoft.MachineLearningServices/workspaces/jobs/write"
    assert is_allowed(run, [{"actions": ["*"], "notActions": []}])
    assert is_allowed(run.upper(), [{"actions": ["Microsoft.MachineLearningServices/workspaces/*/write"]}])
    assert not is_allowed(run, [{"actions": ["Microsoft.MachineLearningServices/workspaces/*/read"]}])
    assert not is_allowed(run, [{"actions": ["*"], "notActions": ["*/jobs/*"]}])
    # What one role takes out another may give.
    assert is_allowed(run, [{"actions": ["*"], "notActions": ["*/jobs/*"]}, {"actions": [run]}])
    assert not is_allowed(run, [])
    assert not is_allowed("x.y", [{"actions": ["x?y", "x[.]y"]}])


def test_a_curve_in_one_line() -> None:
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁" or sparkline([3.0, 2.0, 1.0])[0] == "█"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert len(sparkline([float(n) for n in range(1000)])) == 40


def test_clusters_are_found_by_size_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual name where it fits, one by the size where it doesn't, more machines where they are too few."""
    known: dict[str, Any] = {}
    made: list[str] = []
    monkeypatch.setattr(machines, "_make", lambda _, name, *rest: made.append(f"{name} {rest[0]} {rest[1]} {rest[2]}"))
    updated: list[int] = []
    done = SimpleNamespace(done=lambda: True, result=lambda: None)
    compute = SimpleNamespace(get=known.get, begin_update=lambda each: (updated.append(each.max_instances), done)[1])
    at: Any = SimpleNamespace(ml=SimpleNamespace(compute=compute))
    made_there: dict[str, Any] = {"provisioning_state": "Succeeded"}
    spec = make_spec(azure={"gpu": "Standard_NC24ads_A100_v4", "cpu": "Standard_D4s_v3", "nodes": 2})
    low = spec.model_copy(update={"azure": spec.azure.model_copy(update={"low_priority": True})})
    train, check = STEPS["train"], STEPS["check"]
    assert machines.cluster(at, train, spec, {}) == "tunewright-gpu"
    assert machines.cluster(at, train, low, {}) == "tunewright-gpu-lp"
    size = "Standard_NC24ads_A100_v4"
    assert made == [f"tunewright-gpu {size} 2 False", f"tunewright-gpu-lp {size} 2 True"]
    known["tunewright-cpu"] = SimpleNamespace(size="STANDARD_F8S_V2", tier="dedicated", max_instances=1, **made_there)
    assert machines.cluster(at, check, spec, {}) == "tunewright-d4s-v3"
    known["tunewright-gpu"] = SimpleNamespace(
        size="STANDARD_NC24ADS_A100_V4", tier="dedicated", max_instances=1, **made_there
    )
    assert machines.cluster(at, train, spec, {}) == "tunewright-gpu"
    assert updated == [2]
    known["tunewright-d4s-v3"] = known["tunewright-cpu"]
    with pytest.raises(UserError, match="machines of another size"):
        machines.cluster(at, check, spec, {})
    known["tunewright-d4s-v3"] = SimpleNamespace(provisioning_state="Canceled")
    assert machines.cluster(at, check, spec, {}) == "tunewright-d4s-v3", "what Azure gave up making is made again"
    for size in ("Standard_D4s_v3", "Standard_ND96amsr_A100_v4"):
        assert all(
            len(name) <= machines.LONGEST_COMPUTE
            for on in (True, False)
            for name in machines.cluster_names(size, on, on)
        )


def test_a_job_that_pays_for_a_gpu_ends_without_one() -> None:
    spec = make_spec(azure={"gpu": "Standard_NC4as_T4_v3", "cpu": "Standard_D4s_v3"})

    def variables(name: str) -> Any:
        step = STEPS[name]
        work = JobWork(
            name="tw-1",
            title="x",
            steps=[step],
            given=dict.fromkeys(step.inputs_of(spec), "azureml:x:1"),
            sources={name: ()},
            clusters={name: "cluster"},
            limits={name: 60},
            code="azureml:code:1",
            environment="azureml:environment:1",
            tags={},
            kept={name: "kept"},
        )
        return job_of(work, spec).environment_variables

    assert variables("train")[GPU] == "required"
    assert GPU not in variables("check")


def test_limits_add_up_to_the_budget() -> None:
    spec = make_spec(azure={"gpu": "Standard_NC4as_T4_v3", "cpu": "Standard_D4s_v3", "nodes": 2})
    steps = [STEPS[name] for name in ("check", "split", "train", "export")]
    limits = machines.limits(steps, spec, 5.0)
    rates = {s.name: machines.price_of(machines.size_of(s, spec), spec).usd_per_hour for s in steps}
    usd = sum(limits[s.name] / 3600 * rates[s.name] * machines.nodes_of(s, spec) for s in steps)
    assert 4.9 < usd <= 5.0
    assert limits["train"] * 2 * 0.526 > limits["export"] * 0.526
    assert max(machines.limits(steps, spec, 1e6).values()) == 7 * 24 * 3600
    with pytest.raises(UserError, match=r"pays for only \d+ s of the step"):
        machines.limits(steps, spec, 0.01)


def test_a_package_is_the_same_whenever_it_is_made() -> None:
    one = package("name: x\n")
    assert one == package("name: x\n") != package("name: y\n")
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        names = archive.getnames()
        assert all(entry.mtime == 0 for entry in archive.getmembers())
    assert names[0] == "tunewright.yaml" and "tunewright/pipeline/step.py" in names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("/") or ".." in name]


def test_pins_are_what_is_installed_here() -> None:
    pins = pinned(["train"])
    assert f"transformers=={version('transformers')}" in pins
    assert not [pin for pin in pins if pin.startswith("tunewright")]
    assert pins == sorted(pins) and len({pin.partition("==")[0] for pin in pins}) == len(pins)
    assert not [pin for pin in pins if "+" in pin]


def test_steps_that_are_due_are_those_that_depend_on_one_that_runs(job: MakeJob) -> None:
    spec = job()
    runs = spec.folder / "runs"
    assert [each.name for each in due(spec, STEPS["check"], "split", {}, runs)] == ["split"]
    done: PipelineResult = bring_up_to_date(spec, "split", runs, None, False)
    folders = {name: outcome.folder for name, outcome in done.steps.items()}
    later = due(spec, STEPS["train"], "bundle", folders, runs)
    assert [each.name for each in later] == ["export", "evaluate", "parity", "verdict", "bundle"]
    assert due(spec, STEPS["split"], "split", {"check": folders["check"]}, runs) == []
    assert read_manifest(folders["split"])


def test_a_works_name_does_not_depend_on_where_and_for_how_much(job: MakeJob) -> None:
    def base(spec: Any, *steps: str) -> str:
        place = AzureBackend(spec, None, None, to="train", force=False, ready=lambda: None)
        chain = [STEPS[name] for name in steps]
        return place._base(chain, spec.folder / "runs" / "check-abc", lineage_hashes(spec, steps[-1]))

    spec = job()
    dearer = job(azure={"budget_usd": 99, "cpu": "Standard_F8s_v2", "low_priority": True})
    other = job(train={"lr": 0.5})
    assert base(spec, "check", "split") == base(dearer, "check", "split") == base(other, "check", "split")
    assert base(spec, "check", "split", "train") != base(other, "check", "split", "train")
    assert base(spec, "check") != base(spec, "check", "split")
    # What a training resumes from is found whatever the job began with.
    assert (
        lineage_hashes(spec, "train")["train"]
        == lineage_hashes(spec, "bundle")["train"]
        != lineage_hashes(other, "train")["train"]
    )


def test_tries_are_counted_and_one_that_runs_or_did_is_taken() -> None:
    statuses = {"w": "Failed", "w-2": "Canceled", "w-3": "Running"}
    place = AzureBackend(make_spec(), None, None, to="split", force=False, ready=lambda: None)
    ours = {"tunewright": make_spec().name}
    place._job = lambda name: SimpleNamespace(status=statuses[name], tags=ours) if name in statuses else None
    assert place._try("w")[0] == "w-3"
    statuses["w-3"] = "Completed"
    assert place._try("w")[0] == "w-3"
    place._force = True
    assert place._try("w") == ("w-4", None)
    statuses |= {f"w-{n}": "Failed" for n in range(3, 60)}
    with pytest.raises(UserError, match="was tried 50 times"):
        place._try("w")


def test_a_key_stays_here() -> None:
    asked = {"model": "gpt-4o-mini", "url": "https://api.openai.com/v1"}
    assert stays_here(STEPS["baseline"], make_spec(api=asked | {"key": "OPENAI_API_KEY"}))
    assert not stays_here(STEPS["baseline"], make_spec(api=asked | {"key": "entra"}))
    assert not stays_here(STEPS["train"], make_spec(api=asked | {"key": "OPENAI_API_KEY"}))


def test_the_workspace_is_told_by_spec_variables_or_config(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_ML_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"azd up.*azure.workspace=.*--emulate"):
        workspace_of(make_spec(tmp_path))
    (tmp_path / "config.json").write_text('{"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}')
    assert workspace_of(make_spec(tmp_path / "deep")).path.endswith("/workspaces/w")
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "s2")
    monkeypatch.setenv("AZURE_RESOURCE_GROUP", "g2")
    monkeypatch.setenv("AZURE_ML_WORKSPACE", "w2")
    assert workspace_of(make_spec(tmp_path)).workspace == "w2"
    assert workspace_of(make_spec(tmp_path, azure={"workspace": "a/b/c"})).workspace == "c"


def test_an_encoder_is_trained_on_one_node() -> None:
    decoder, encoder = (make_spec(model=name, azure={"nodes": 2}) for name in ("smollm2-135m", "all-minilm"))
    assert [machines.nodes_of(STEPS["train"], spec) for spec in (decoder, encoder)] == [2, 1]


def test_a_linear_model_is_fitted_without_a_gpu() -> None:
    steps = steps_to(make_spec(), "bundle")
    sizes = {step.name: machines.size_of(step, make_spec(model="linear")) for step in steps}
    assert not any("NC" in size for size in sizes.values())
    assert "NC" in machines.size_of(STEPS["train"], make_spec())
    spec = make_spec(model="linear", azure={"nodes": 4})
    assert machines.nodes_of(STEPS["train"], spec) == 1
