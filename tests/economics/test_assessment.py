from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import time_machine
from typer.testing import CliRunner

from tunewright.cli.app import command_line
from tunewright.config import load_money
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.economics.assessment import Assessment, assess
from tunewright.economics.hosting import service_of
from tunewright.models.catalogue import catalogue

app = command_line()

TEN_LINES = """\
name: routing
api:
  model: gpt-4o
  prompt_tokens: 480
  completion_tokens: 20
traffic:
  requests_per_month: 10000000
goal:
  accuracy: 0.95
  p95_ms: 500
"""


@pytest.fixture(autouse=True)
def _day() -> Iterator[None]:
    """That on which the built-in prices were read."""
    with time_machine.travel("2026-11-27T12:00Z"):
        yield


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "tunewright.yaml"
    file.write_text(TEN_LINES, "utf-8")
    return file


def assessed(spec: Path, *overrides: str) -> Assessment:
    read = load_money(spec, overrides)
    return assess(read, price_book(read.price_file))


def test_ten_lines_and_no_model_are_enough(spec: Path) -> None:
    result = assessed(spec)
    labels = [way.label for way in result.ways]
    assert labels[:2] == ["API gpt-4o", "API gpt-4o, batch"]
    assert {"API gpt-6-luna", "API claude-haiku-5-5", "TF-IDF + linear SVM", "mistral-7b, tuned"} <= set(labels)
    assert result.ways[0].cost.usd_per_month == pytest.approx(14_000)
    assert result.ways[1].cost.usd_per_month == pytest.approx(7_000)
    assert result.sentence.startswith("Worth a try: a tuned ")
    assert result.sentence.endswith(
        "gpt-4o leaves OpenAI's API on 2027-01-14. API ministral-3b-2512 would cost $500: measure that first."
    )
    assert result.ways[0].note == "ends 2027-01-14"
    assert not result.stale
    assert result.money
    assert result.money.swings


def test_at_little_traffic_it_says_don_t(spec: Path) -> None:
    result = assessed(spec, "traffic.requests_per_month=10000")
    assert result.sentence.startswith("Don't: at 10,000 requests gpt-4o costs $14 a month")
    assert "it pays from about" in result.sentence


def test_upkeep_and_retraining_count(spec: Path) -> None:
    dear = assessed(spec, "costs.upkeep_usd_per_month=20000")
    assert dear.sentence.startswith("Don't")
    trained = assessed(spec, "costs.upkeep_usd_per_month=400")
    plain = assessed(spec)
    assert trained.money
    assert plain.money
    assert plain.money.saving - trained.money.saving == pytest.approx(400)


def test_engineering_is_paid_back_within_the_horizon_or_it_says_don_t(spec: Path) -> None:
    """At luna's price a model of $341 saves $239 a month."""
    luna = "api.model=gpt-6-luna"
    assert "and has paid for its engineering after 10.5 months" in (
        assessed(spec, luna, "costs.engineering_usd=2500").sentence
    )
    dear = assessed(spec, luna, "costs.engineering_usd=3100").sentence
    assert (
        "save $239 a month against gpt-6-luna, which does not pay for $3,100 of engineering within 12 months." in dear
    )
    assert "ministral-3b-2512 would cost $500: measure that first." in dear
    assert assessed(spec, luna, "costs.engineering_usd=3100", "costs.horizon_months=24").sentence.startswith(
        "Worth a try"
    )


def test_an_api_that_ends_is_saved_until_then_and_the_cheapest_that_lasts_after_that(spec: Path) -> None:
    """A model of $341 against $14,000 for 48 days, then against $500."""
    counted = (
        "It saves $21,540 until gpt-4o ends, and saves $1,655 in the rest of the 12 months against API "
        "ministral-3b-2512 at $500 a month. gpt-4o leaves"
    )
    worth = assessed(spec).sentence
    assert counted in worth
    assert "requests a month as long as gpt-4o lasts, and leaves $23,195 for engineering" in worth
    dear = assessed(spec, "costs.engineering_usd=100000").sentence
    assert dear.startswith("Don't: at 10,000,000 requests the cheapest model of your own would save $13,659 a month")
    assert counted in dear
    little = assessed(spec, "traffic.requests_per_month=200000").sentence
    assert "against gpt-4o, which does not save money within 12 months. It saves $52 until gpt-4o ends" in little
    assert "and costs $2,470 more in the rest of the 12 months than API ministral-3b-2512 at $10 a month" in little


def test_from_which_volume_it_pays_does_not_contradict_the_saving(spec: Path) -> None:
    """One T4 does ten million requests, and the second one costs more than luna until it is busy."""
    steps = ("api.model=gpt-6-luna", "traffic.peak_to_average=10", "model=smollm2-135m")
    result = assessed(spec, *steps)
    assert result.money
    assert result.money.saving > 0
    assert result.money.break_even_requests
    assert result.money.break_even_requests > 10_000_000
    assert (
        "it pays at today's volume and at any above about 13,468,662 requests a month, but not at every one between"
    ) in result.sentence
    above = assessed(spec, *steps, "traffic.requests_per_month=14000000")
    assert "; it pays from about " in above.sentence


def test_unpriced_work_is_not_counted_and_the_sentence_says_what_is_left_for_it(spec: Path) -> None:
    plain = assessed(spec)
    assert plain.money
    assert "leaves $23,195 for engineering, reviews (61 hours), retraining within 12 months" in plain.sentence
    items = {item.name: item for item in plain.money.items}
    assert (items["reviews"].usd_per_month, items["retraining"].usd_per_month) == (None, None)
    costs = ("costs.hourly_usd=60", "costs.retraining_usd=5", "costs.engineering_usd=20000")
    priced = assessed(spec, *costs)
    assert "and leaves" not in priced.sentence
    assert priced.money
    assert priced.money.saving == pytest.approx(plain.money.saving - 60 * 365 / 12 * 10 / 60 - 5 * 365 / 12 * 10 / 100)


def test_the_items_add_up_to_the_months_of_the_table_and_of_the_saving(spec: Path) -> None:
    result = assessed(spec, "costs.hourly_usd=60", "costs.upkeep_usd_per_month=40", "traffic.redundancy=3")
    assert result.money
    assert result.own
    month = sum(item.usd_per_month or 0 for item in result.money.items)
    assert month == pytest.approx(14_000 - result.money.saving)
    ways = {way.label: way.cost for way in result.ways}
    assert ways[f"{result.own.model}, tuned"].usd_per_month == pytest.approx(month)
    assert ways[f"{result.own.model}, tuned"].usd_per_1000 == pytest.approx(month / 10_000)


def test_a_latency_that_nothing_keeps_means_keep_the_api(spec: Path) -> None:
    assert assessed(spec, "goal.p95_ms=0.01").sentence.startswith("Keep gpt-4o")


def test_an_api_that_has_ended_is_not_recommended(spec: Path) -> None:
    for requests in (1_000, 10_000_000):
        result = assessed(spec, "api.model=gpt-4.1-nano", f"traffic.requests_per_month={requests}")
        assert result.sentence.startswith(
            "gpt-4.1-nano left OpenAI's API on 2026-10-23. In its place API ministral-3b-2512"
        )
        assert result.ways[0].note == "ended 2026-10-23"
    late = assessed(spec, "api.model=gpt-4.1-nano", "goal.p95_ms=0.01").sentence
    assert late.endswith(
        "In its place API ministral-3b-2512 would cost $500 a month; none of these models answers within 0 ms."
    )


def test_an_api_kept_for_now_is_said_to_end_where_it_does(spec: Path) -> None:
    azure = assessed(spec, "goal.p95_ms=0.01", "api.url=https://ours.openai.azure.com/openai/v1").sentence
    assert "price book. gpt-4o leaves Azure on 2027-04-14. API" in azure


def test_the_thinking_of_a_model_is_said_not_to_be_counted(spec: Path) -> None:
    notes = {way.label: way.note for way in assessed(spec).ways}
    assert notes["API gpt-6-luna"] == "thinking not counted"
    assert notes["API ministral-3b-2512"] == ""


def test_one_model_is_assessed_where_the_spec_names_it(spec: Path) -> None:
    labels = [way.label for way in assessed(spec, "model=phi-3-mini").ways]
    assert [label for label in labels if "tuned" in label] == ["phi-3-mini, tuned"]


def test_a_misspelt_model_is_refused_with_the_nearest_name(spec: Path) -> None:
    with pytest.raises(UserError, match=r"No base model 'phi3-mini'.*Did you mean 'phi-3-mini'"):
        assessed(spec, "model=phi3-mini")


def test_a_misspelt_name_with_a_dot_is_no_path(spec: Path) -> None:
    with pytest.raises(UserError, match=r"No base model 'qwen2\.5-0\.5bb'"):
        assessed(spec, "model=qwen2.5-0.5bb")


def test_an_api_that_costs_nothing_is_kept(spec: Path) -> None:
    (spec.parent / "free.yaml").write_text("apis: {house: {usd_in: 0, usd_out: 0}}", "utf-8")
    assert "it pays at no volume" in assessed(spec, "prices=free.yaml", "api.model=house").sentence


def test_tokens_are_asked_for_where_the_spec_has_none(tmp_path: Path) -> None:
    file = tmp_path / "tunewright.yaml"
    file.write_text("name: x\n", "utf-8")
    with pytest.raises(UserError, match=r"How many tokens.*api\.prompt_tokens=480"):
        assessed(file)


def test_a_whole_spec_is_assessed_too() -> None:
    result = assessed(Path(__file__).parents[2] / "examples" / "tickets", "api.prompt_tokens=null")
    assert result.ways[0].label == "API gpt-4o"
    # "Which team answers this support ticket?" and a ticket of about 20 words; a label.
    assert 20 < result.prompt_tokens < 60
    assert 1 <= result.answer_tokens < 4


def test_rows_that_do_not_count_have_no_tokens(tmp_path: Path) -> None:
    """However many of them stand at the head of the file."""
    rows = [{"text": "x " * 2000, "label": "a", "weight": 0}] * 1200 + [{"text": "four", "label": "b"}] * 5
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    labels = "task: {kind: classify, instruction: Sort., labels: [a, b]}\ndata: {train: rows.jsonl}\n"
    (tmp_path / "tunewright.yaml").write_text(f"name: n\n{labels}goal: {{accuracy: 0.9}}\napi: {{model: gpt-4o}}\n")
    assert 1 <= assessed(tmp_path).prompt_tokens < 20


ARTICLE = Path(__file__).parents[2] / "examples" / "article"


@pytest.mark.parametrize(
    ("overrides", "usd"),
    [
        ([], 14_000),
        (["prices=prices_2023.yaml"], 27_000),
        (["prices=prices_2023.yaml", "api.model=gpt-4-turbo"], 54_000),
    ],
)
def test_the_articles_table(overrides: list[str], usd: float) -> None:
    assert assessed(ARTICLE, *overrides).ways[0].cost.usd_per_month == pytest.approx(usd)


def test_an_own_price_book_lies_over_the_built_in_one(spec: Path) -> None:
    book = spec.parent / "ours.yaml"
    book.write_text(
        "as_of: 2026-10-01\napis:\n  gpt-4o: {usd_in: 1.25}\n  house: {usd_in: 0.1, usd_out: 0.1}\n", "utf-8"
    )
    result = assessed(spec, "prices=ours.yaml")
    assert result.as_of == "2026-10-01"
    assert result.stale.startswith("The prices are 57 days old (machines 2026-10-01, APIs 2026-10-01)")
    assert result.ways[0].cost.usd_per_month == pytest.approx(8_000)
    assert "API house" in [way.label for way in result.ways]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apis: {gpt-4o: {usd_inn: 1}}", r"apis\.gpt-4o\.usd_inn"),
        ("- 1", "no mapping"),
        ("a: [", "YAML can't be read"),
        (None, "does not exist"),
        ("apis: {gpt-4o: {usd_in: -1}}", r"apis\.gpt-4o\.usd_in"),
        ("machines: {mine: {usd_per_hour: .nan, cores: 2}}", r"machines\.mine\.usd_per_hour"),
        (
            "machines: {mine: {usd_per_hour: 1, cores: 2, gpu: {card: L40S, gib: 48}}}",
            "L40S, which is not among the cards",
        ),
    ],
)
def test_a_price_book_that_can_t_be_used_is_named(spec: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (spec.parent / "broken.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match=rf"broken\.yaml.*{expected}"):
        assessed(spec, "prices=broken.yaml")


def test_the_verb_takes_a_spec_and_the_rooms_names(spec: Path) -> None:
    plain = CliRunner().invoke(app, ["assess", str(spec)])
    assert plain.exit_code == 0
    assert "14,000" in plain.output
    assert "not counted: costs.hourly_usd" in " ".join(plain.output.replace("│", "").split())
    assert "The inputs that decide the monthly saving" in plain.output
    assert CliRunner().invoke(app, ["assess", "money", str(spec)]).output == plain.output
    sized = CliRunner().invoke(app, ["assess", "size"])
    assert sized.output.startswith("1,546 test examples")
    assert '"examples": 1546' in CliRunner().invoke(app, ["assess", "size", "--json"]).output


def test_a_larger_model_takes_longer_and_a_better_card_less() -> None:
    book, known = price_book(), catalogue()

    def seconds(model: str, machine: str) -> float:
        priced = book.machines[machine]
        service = service_of(known[model], priced, book.cards[priced.gpu.card] if priced.gpu else None, 480, 20, 10.0)
        assert service
        return service.seconds

    assert seconds("llama-3.2-1b", "Standard_NC4as_T4_v3") < seconds("phi-3-mini", "Standard_NC4as_T4_v3")
    assert seconds("mistral-7b", "Standard_NC24ads_A100_v4") < seconds("mistral-7b", "Standard_NV36ads_A10_v5")
    assert seconds("smollm2-135m", "Standard_D4s_v5") < seconds("smollm2-135m", "Standard_D2s_v5")


def test_a_model_that_does_not_fit_has_no_machine() -> None:
    book = price_book()
    sixth = book.machines["Standard_NV6ads_A10_v5"]
    assert service_of(catalogue()["mistral-7b"], sixth, book.cards["A10"], 480, 20, 1.0) is None


def test_a_7b_model_is_not_recommended_where_its_memory_is_not() -> None:
    book, entry = price_book(), catalogue()["mistral-7b"]

    def fits(machine: str, precision: str = "int8") -> bool:
        priced = book.machines[machine]
        card = book.cards[priced.gpu.card] if priced.gpu else None
        return service_of(entry, priced, card, 480, 20, 100.0, precision) is not None

    assert not fits("Standard_D2s_v5")  # 8 GiB, and 7.2 GB of weights
    assert fits("Standard_D2s_v5", "int4")
    assert fits("Standard_D4s_v5")
    # 14.5 GB in 16 bits: a T4 has 14.56 GiB, of which vLLM takes 90 % with its activations.
    assert not fits("Standard_NC4as_T4_v3")
    assert fits("Standard_NV36ads_A10_v5")


@pytest.mark.parametrize("model", ["mistral-7b", "llama-3-8b"])
def test_assess_names_no_machine_that_is_too_small(spec: Path, model: str) -> None:
    result = assessed(spec, f"model={model}", "goal.p95_ms=600000", "traffic.requests_per_month=1000")
    assert result.own
    assert result.own.machine not in ("Standard_D2s_v5", "Standard_NC4as_T4_v3")


def test_a_machine_of_unknown_memory_is_not_refused(spec: Path) -> None:
    (spec.parent / "own.yaml").write_text("machines: {mine: {usd_per_hour: 0.01, cores: 2}}", "utf-8")
    result = assessed(
        spec, "prices=own.yaml", "model=mistral-7b", "goal.p95_ms=600000", "traffic.requests_per_month=1000"
    )
    assert result.own
    assert result.own.machine == "mine"


def test_examples_in_groups_take_as_many_more_as_their_design_effect() -> None:
    grouped = CliRunner().invoke(app, ["assess", "size", "--design-effect", "3"])
    assert "4,637 test examples" in grouped.output
    assert "3 of them count as one independent example" in " ".join(grouped.output.split())
    assert CliRunner().invoke(app, ["assess", "size", "--design-effect", "0.5"]).exit_code == 2


def test_an_encoder_reads_and_writes_nothing_on_a_cpu(spec: Path) -> None:
    book, small = price_book(), catalogue()["bert-base"]
    cpu, t4 = book.machines["Standard_D2s_v5"], book.machines["Standard_NC4as_T4_v3"]
    assert service_of(small, t4, book.cards["T4"], 480, 20, 1.0) is None
    read, longer, longest = (service_of(small, cpu, None, tokens, 20, 1.0) for tokens in (256, 512, 5000))
    assert read and longer and longest
    assert longer.seconds == pytest.approx(2 * read.seconds) == longest.seconds, "no more than its window"
    assert [way.label for way in assessed(spec, "model=bert-base").ways][-1] == "bert-base, tuned"
    assert not any("bert" in way.label or "minilm" in way.label for way in assessed(spec).ways)


def test_an_encoder_is_not_assessed_for_what_it_can_t_do(spec: Path) -> None:
    spec.write_text(TEN_LINES + "task: {kind: generate, instruction: Answer.}\n", "utf-8")
    with pytest.raises(UserError, match="bert-base is an encoder, and this task is generate"):
        assessed(spec, "model=bert-base")
    labels = [way.label for way in assessed(spec, "candidates=[bert-base, smollm2-135m]").ways]
    assert [label for label in labels if "tuned" in label] == ["smollm2-135m, tuned"]


def own_of(result: Assessment) -> list[str]:
    return [way.label for way in result.ways if way.label.endswith(("tuned", "fitted"))]


def test_a_linear_model_is_assessed_where_the_spec_names_it_alone(spec: Path) -> None:
    result = assessed(spec, "model=linear")
    assert own_of(result) == ["linear, fitted"]
    assert result.sentence.startswith("Worth a try: a linear model on 1 x Standard_D2s_v5 would cost about $")
    assert own_of(assessed(spec, "candidates=[linear, phi-3-mini]")) == ["phi-3-mini, tuned"]
    with pytest.raises(UserError, match="it is generate, and a linear model chooses a label"):
        assessed(spec, "model=linear", "task={kind: generate, instruction: Answer.}")


def test_a_folder_is_assessed_by_its_config(spec: Path) -> None:
    shape = catalogue()["phi-3-mini"].shape
    assert shape
    shape.config().save_pretrained(spec.parent / "ours")
    ours, known = assessed(spec, "model=./ours"), assessed(spec, "model=phi-3-mini")
    assert own_of(ours) == ["ours, tuned"]
    assert ours.ways[-1].cost == known.ways[-1].cost


def test_a_model_of_unknown_size_is_left_out_and_named(spec: Path) -> None:
    with pytest.raises(UserError, match=r"Nothing here says how large owner/name is.*tunewright models ls"):
        assessed(spec, "model=owner/name")
    result = assessed(spec, "candidates=[owner/name, phi-3-mini]")
    assert own_of(result) == ["phi-3-mini, tuned"]
    assert result.left_out.startswith("Not assessed: Nothing here says how large owner/name is")
    shown = CliRunner().invoke(app, ["assess", str(spec), "candidates=[owner/name, phi-3-mini]"]).output
    assert result.left_out in " ".join(shown.split())
    assert not assessed(spec).left_out


def test_a_prompt_cache_that_nobody_counted_is_said_not_to_be(spec: Path) -> None:
    said = assessed(spec).uncached
    assert "$1.25 instead of $2.5 a million tokens" in said
    assert "a month is $14,000 if it holds nothing, and $8,000 if it holds every prompt whole" in said
    (spec.parent / "own.yaml").write_text("apis: {house: {usd_in: 1, usd_out: 1}}", "utf-8")
    assert not assessed(spec, "prices=own.yaml", "api.model=house").uncached
    assert "nobody counted what its cache holds" in " ".join(
        CliRunner().invoke(app, ["assess", str(spec)]).output.split()
    )


@pytest.mark.parametrize("anthropic", [False, True])
def test_what_an_api_counted_in_a_log_is_priced_with_its_cache(spec: Path, anthropic: bool) -> None:
    counts = (
        {"input_tokens": 100, "cache_read_input_tokens": 1_000, "cache_creation_input_tokens": 0, "output_tokens": 30}
        if anthropic
        else {
            **{"prompt_tokens": 1_100, "prompt_tokens_details": {"cached_tokens": 1_000}, "completion_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 10},
        }
    )
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is my refund?"}]}
    answer = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "refund"}}]}
    row = {"request": request, "response": answer | {"usage": counts}}
    (spec.parent / "train.jsonl").write_text(f"{json.dumps(row)}\n" * 3, "utf-8")
    task = "task={kind: classify, instruction: 'Which: {labels}', labels: [refund, billing]}"
    overrides = [task, "data.train=train.jsonl", "api.prompt_tokens=null", "api.completion_tokens=null"]
    result = assessed(spec, *overrides)
    assert (result.prompt_tokens, result.answer_tokens, result.cached_tokens) == (1_100, 30, 1_000)
    month = (100 * 2.5 + 1_000 * 1.25 + 30 * 10) * 10
    assert result.ways[0].cost.usd_per_month == pytest.approx(month)
    assert result.money and result.saving
    assert result.money.saving == pytest.approx(month - result.saving.own_usd)
    other, thought = next(way for way in result.ways if way.label == "API gpt-6-luna"), 0 if anthropic else 10
    assert other.cost.usd_per_month == pytest.approx((100 * 0.1 + 1_000 * 0.01 + (30 - thought) * 0.5) * 10)
    assert not result.uncached, "the log says what came from the cache"
    assert assessed(spec, *overrides, "api.prompt_tokens=1100").uncached
    shown = CliRunner().invoke(app, ["assess", str(spec), *overrides]).output
    assert "1,100 tokens in (1,000 from the API's cache) and 30 out" in shown


def test_a_precision_that_nothing_is_served_in_is_refused(spec: Path) -> None:
    with pytest.raises(UserError, match=r"export\.precision: There is no precision 'fp16'\. .*fp32"):
        assessed(spec, "export.precision=fp16")


@pytest.mark.parametrize(
    "text",
    [
        "machines: {mine: {usd_per_hour: 1, cores: 0}}",
        "machines: {mine: {usd_per_hour: 1, cores: 2, gpu: {card: T4, gib: 0}}}",
        "machines: {mine: {usd_per_hour: 1, cores: 2, gpu: {card: T4, gib: 16, count: 0}}}",
        "cards: {T4: {gib: 0}}",
        "cards: {T4: {gb_per_second: 0}}",
    ],
)
def test_a_machine_of_nothing_is_refused(spec: Path, text: str) -> None:
    (spec.parent / "own.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"own\.yaml: (machines\.mine|cards\.T4).* greater than"):
        assessed(spec, "prices=own.yaml")
