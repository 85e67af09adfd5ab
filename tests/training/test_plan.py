"""The plan's rules: what fits and why not, what is cheapest, and its arithmetic of steps, hours and dollars."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LABELS, TOKENIZER, example, make_spec, unalike
from tests.pipeline.made import encoder_folder
from tunewright.config.sections import TrainSpec
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.economics.memory import TRAINER
from tunewright.economics.prices import Card, Gpu
from tunewright.economics.speed import seconds
from tunewright.models.catalogue import catalogue
from tunewright.models.meter import Work
from tunewright.training.capabilities import require_able
from tunewright.training.encoders.steps import train_encoder
from tunewright.training.loop.encode import Row
from tunewright.training.planning import batches, cpu, plan
from tunewright.training.planning.division import Division
from tunewright.training.planning.footprint import Footprint, footprint
from tunewright.training.planning.plan import Plan

ROWS = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}]


@pytest.fixture
def bytes_for_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count one token a byte for any model, and skip this machine, which is slow to plan for with large models."""
    monkeypatch.setattr(plan, "machine_memory", lambda: 0)
    template = batches.ChatTemplate.named("chatml")
    monkeypatch.setattr(batches, "resolve_tokenizer", lambda *_: (TOKENIZER, template))


@cache
def small_footprint() -> Footprint:
    return footprint(catalogue()["smollm2-135m"].shape.config(), TrainSpec(), ROWS, "bfloat16")


@pytest.fixture
def one_footprint(bytes_for_tokens: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Every step has the same footprint, to test the arithmetic around it."""
    monkeypatch.setattr(plan, "footprint", lambda *_, **__: small_footprint())


def planned(model: str, **train: Any) -> Plan:
    """A plan for invented tickets."""
    spec = make_spec(Path("/nowhere"), model=model, train=train)
    examples = [example(unalike(f"{label} {n}"), label) for n in range(40) for label in LABELS]
    return plan.plan(spec, examples, examples[:20])


@pytest.mark.slow
@pytest.mark.usefixtures("bytes_for_tokens")
def test_phi_3_mini_fits_a_t4_in_float16_and_no_sixth_of_an_a10() -> None:
    found = planned("phi-3-mini", method="qlora")
    options = {option.machine: option for option in found.options}
    t4, sixth = options["Standard_NC4as_T4_v3"], options["Standard_NV6ads_A10_v5"]
    assert (t4.fits, t4.precision, t4.why) == (True, "float16", "in float16")
    assert not sixth.fits
    assert "GiB short" in sixth.why
    assert options["Standard_NV36ads_A10_v5"].precision == "bfloat16"
    assert found.cheapest
    assert found.cheapest.machine in found.sentence
    assert all(found.cheapest.usd <= option.usd for option in found.options if option.fits)


@pytest.mark.slow
@pytest.mark.usefixtures("one_footprint")
def test_bfloat16_by_name_does_not_fit_a_t4() -> None:
    options = {option.machine: option for option in planned("smollm2-135m", precision="bfloat16").options}
    assert not options["Standard_NC4as_T4_v3"].fits
    assert "train.precision=float16" in options["Standard_NC4as_T4_v3"].why


@pytest.mark.slow
@pytest.mark.usefixtures("bytes_for_tokens")
def test_a_model_too_large_for_one_gpu_is_divided_or_refused() -> None:
    options = {option.machine: option for option in planned("mistral-nemo", gradient_checkpointing=True).options}
    a10, two = options["Standard_NV36ads_A10_v5"], options["Standard_NV72ads_A10_v5"]
    assert not a10.fits
    assert "the model with its adapter and optimizer alone takes 23.5 GiB" in a10.why
    assert (two.spread, two.fits) == ("sharded", False)  # each GPU first loads the whole model
    assert options["Standard_NC24ads_A100_v4"].fits
    assert options["Standard_NC48ads_A100_v4"].spread == "data"


@pytest.mark.usefixtures("one_footprint")
def test_steps_and_dollars() -> None:
    found = planned("smollm2-135m", batch_size=8, epochs=3, num_seeds=2, num_evaluations=0)
    assert found.steps == 2 * 3 * 120 / 8
    for option in found.options:
        assert option.usd == pytest.approx(option.hours * price_book().machines[option.machine].usd_per_hour)
        assert option.hours > plan._START_SECONDS / 3600


RECORD = {"type": "object", "properties": {"total": {"type": "string"}}}
LONG = example("".join(f"a line of the document {n}\n" for n in range(40)), '{"total":"document 7"}')


@pytest.mark.usefixtures("one_footprint")
def test_copies_with_swapped_values_are_steps_and_no_windows() -> None:
    task = {"kind": "extract", "instruction": "Read.", "schema": RECORD}
    train = {"batch_size": 4, "epochs": 1, "num_swapped_copies": 3}
    spec = make_spec(Path("/nowhere"), model="smollm2-135m", task=task, train=train)
    examples = [example(f"Total {n}", f'{{"total":"{n}"}}') for n in range(10, 30)]
    found = plan.plan(spec, examples, examples[:2])
    assert (found.chunks, found.steps) == (1, 20 * 4 / 4)


@pytest.mark.usefixtures("one_footprint")
def test_a_document_longer_than_a_window_is_planned_as_its_windows() -> None:
    """As the training has it: the plan refused a job that `run` trains."""
    task = {"kind": "extract", "instruction": "Read.", "schema": RECORD, "window": 200}
    train = {"batch_size": 2, "epochs": 1, "max_length": 512, "num_evaluations": 1}
    spec = make_spec(Path("/nowhere"), model="smollm2-135m", task=task, train=train)
    windows = len(batches.decoder_examples(spec, [LONG])[0])
    assert windows > 4
    found = plan.plan(spec, [LONG] * 6, [LONG] * 2)
    assert (found.chunks, found.steps) == (windows, 6 * windows / 2)
    assert 200 < found.batches.longest <= 512
    assert found.passes == pytest.approx(found.steps + 2 * windows * plan._MEASURED / 2)


@pytest.mark.slow
@pytest.mark.usefixtures("one_footprint")
def test_twice_the_epochs_are_twice_the_time_behind_the_start() -> None:
    start = plan._START_SECONDS / 3600
    once, twice = (planned("smollm2-135m", epochs=n, num_evaluations=0).options[0].hours - start for n in (2, 4))
    assert twice == pytest.approx(2 * once, rel=0.05)


@pytest.mark.usefixtures("one_footprint")
def test_the_key_value_cache_is_that_of_one_prompt() -> None:
    # Llama-3.2-1B: 16 layers of 8 key heads of 64 numbers, keys and values, two bytes each
    assert planned("llama-3.2-1b", max_length=1000).kv_bytes == 2 * 16 * 8 * 64 * 1000 * 2


def test_a_model_that_is_not_here_is_counted_with_the_default_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(model: str, _: Path) -> tuple[Path, Any]:
        if model == "smollm2-135m":
            return TOKENIZER, batches.ChatTemplate.named("chatml")
        raise batches.UserError("The hub can't be reached.")

    monkeypatch.setattr(batches, "resolve_tokenizer", absent)
    spec = make_spec(model="llama-3.2-1b")
    drawn = batches.draw_batches(spec, [example(unalike(str(n)), LABELS[n % 3]) for n in range(40)])
    assert drawn.tokenizer == "smollm2-135m"
    with pytest.raises(batches.UserError, match="hub"):
        batches.draw_batches(make_spec(model="owner/name"), [example("x")])


@pytest.mark.slow
@pytest.mark.usefixtures("one_footprint")
def test_this_machine_is_planned_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "machine_memory", lambda: 2**34)
    found = planned("smollm2-135m", precision="float32", batch_size=4)
    assert found.here
    assert found.here.memory_gib == 16
    assert found.here.peak_gib > found.footprint.peak / plan.GIB
    assert 0 < found.here.hours.low < found.here.hours.high


@pytest.mark.slow
@pytest.mark.usefixtures("one_footprint")
def test_each_process_that_shares_batches_holds_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "machine_memory", lambda: 2**34)
    monkeypatch.setattr(plan, "cpu_speed", lambda _: cpu.CpuSpeed(1e11, 1e10))
    found = []
    for divided in (Division(1, 1.0), Division(2, 0.75)):
        monkeypatch.setattr(plan, "division", lambda *_, divided=divided: divided)
        found.append(planned("smollm2-135m").here)
    one, two = found
    assert one
    assert two
    assert two.processes == 2
    assert two.peak_gib == pytest.approx(2 * one.peak_gib)
    assert two.hours.middle == pytest.approx(0.75 * one.hours.middle)


def test_the_heaviest_pass_is_one_of_the_trainings_own() -> None:
    """A pass has rows that follow each other, so two long ones may share one."""
    rows: list[Row] = [
        {"input_ids": [number, *range(length)], "labels": [-100] * length + [1]}
        for number, length in enumerate([1000] * 8 + [50] * 8)
    ]
    drawn = batches.DrawnBatches("t", rows, rows, 8400.0, 1001, 0, 525.0, 1.0, is_whole=False)
    assert sum(len(each["input_ids"]) - 1 for each in drawn.heaviest_pass()) == 2000
    assert len(replace(drawn, is_whole=True).heaviest_pass()) == 16
    assert len(drawn.heaviest_pass(2)) == 2, "of a pass of four, which are two for each process"


def test_mapped_files_are_not_memory_that_a_training_holds(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    assert cpu.stored_bytes(str(tmp_path), tmp_path) == cpu.stored_bytes(tmp_path.name, tmp_path.parent) == 1000
    assert cpu.stored_bytes("llama-3.2-1b", tmp_path) == 2e9 * catalogue()["llama-3.2-1b"].parameters
    one = small_footprint()
    assert cpu.held(one) == TRAINER + cpu.ALLOCATOR * one.peak


def test_time_is_products_and_traffic_or_the_launches() -> None:
    card = Card(gib=24, tflops=100, tflops32=10, gb_per_second=1000)
    whole, half = Gpu(card="x", gib=24), Gpu(card="x", gib=12)
    work = Work(flops=3e13, moved=8e11, dequantised=1e11)
    assert seconds(work, card, whole) == pytest.approx(1 + 1 + 1)
    assert seconds(work, card, half) == pytest.approx(6)
    assert seconds(work, card, whole, float32=True) == pytest.approx(10 + 1 + 1)
    assert seconds(Work(operations=1000), card, whole) == pytest.approx(0.01)


def test_no_card_is_rated_faster_than_large_products_were_measured_on_it() -> None:
    """With a data sheet's peak, trainings on a T4 looked 2.7 times as fast: its 70 W hold it at 24 TFLOP/s."""
    measured = {"T4": 24, "A10": 70, "A100": 271.2, "H100": 794.5, "H100-NVL": 794.5}  # sources: prices.yaml
    assert {name: card.tflops <= measured[name] for name, card in price_book().cards.items()} == dict.fromkeys(
        measured, True
    )


def test_every_gpu_of_the_price_book_has_its_card() -> None:
    for name, machine in price_book().machines.items():
        if machine.gpu:
            card = price_book().cards[machine.gpu.card]
            assert machine.gpu.gib <= card.gib, name
    assert catalogue()


@pytest.mark.slow
@pytest.mark.parametrize(("consistency", "readings"), [(0.0, 1), (1.0, 2)])
def test_an_encoder_takes_16_bytes_a_parameter_and_six_operations_a_token(
    consistency: float, readings: int, tmp_path: Path
) -> None:
    encoder = {"epochs": 3, "batch_size": 8, "consistency": consistency}
    spec = make_spec(model=str(encoder_folder(tmp_path)), train={"encoder": encoder})
    examples = [example("a b c", label) for label in LABELS for _ in range(8)]
    found = plan.plan(spec, examples, examples[:4])
    rows, inner = 8 * len(LABELS), 2 * (4 * 64**2 + 2 * 64 * 256)
    assert found.steps == 3 * rows // 8
    assert found.footprint.fixed + found.footprint.gradients == 16 * (64_000 + inner)
    assert found.footprint.work.flops == readings * 6 * inner * 8 * 5, "[CLS] a b c [SEP]"
    assert (found.kv_bytes, found.batches.longest) == (0, 5)
    assert found.cheapest
    assert found.here is None or found.here.hours.low < found.here.hours.high


@pytest.mark.slow
def test_an_encoders_windows_are_counted_too(tmp_path: Path) -> None:
    task = {"kind": "extract", "instruction": "Read.", "schema": RECORD, "window": 64}
    spec = make_spec(model=str(encoder_folder(tmp_path)), task=task, train={"encoder": {"epochs": 1, "batch_size": 2}})
    found = plan.plan(spec, [LONG] * 6, [LONG])
    assert found.chunks > 4
    assert found.steps == 6 * found.chunks / 2


def test_a_text_longer_than_the_encoder_reads_is_refused(tmp_path: Path) -> None:
    spec = make_spec(model=str(encoder_folder(tmp_path)))
    with pytest.raises(UserError, match=r"longer than the window of .* = 128 tokens"):
        plan.plan(spec, [example("a " * 127)], [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"init_adapter": "runs/adapter"}}, r"train\.init_adapter: .* can't begin with an adapter"),
        ({"export": {"runtime": "vllm"}}, "vllm doesn't serve encoders"),
        ({"export": {"precision": "int4"}}, "can't be served in int4"),
        ({"task": {"kind": "generate", "instruction": "Answer."}}, "an encoder chooses a label, and can't write"),
    ],
)
def test_specs_that_an_encoder_can_t_do_are_refused_before_any_work(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        require_able(make_spec(model=str(encoder_folder(tmp_path)), **changes))
    require_able(make_spec(**changes))


def test_an_encoder_is_not_trained_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output: Any = None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"trained by one process; this is one of 2.*without accelerate launch"):
        train_encoder(make_spec(model=str(encoder_folder(tmp_path))), tmp_path, output)
