"""Tiny random encoders that fill records: what is taught and learnt, what is written, and that every runtime answers
alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.encoders import WINDOW, build, local, with_word_pieces, write_encoder
from tunewright.config.sections import EncoderSpec
from tunewright.core.artifacts import write_jsonl
from tunewright.core.errors import UserError
from tunewright.evaluation.candidates.classifiers import trained_encoder
from tunewright.inference.predictors import RecordTagger
from tunewright.inference.runtimes.encoder_model import EncoderModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Meta
from tunewright.tasks.extract import ExtractTask
from tunewright.training.loop.encode import IGNORED

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SCHEMA = {
    "type": "object",
    "properties": {
        "who": {"type": "string"},
        "when": {"type": "string", "format": "date"},
        "items": {"type": "array", "items": {"type": "string"}},
        "kind": {"enum": ["bill", "offer"]},
    },
    "required": ["who", "kind"],
}
TASK = ExtractTask("Read this.", SCHEMA)
WHO, ITEMS = ("Rosa", "Sven", "Ümit"), ("oil", "tea", "ink")
EXACT, QUANTISED = 5e-5, 0.5
RUNTIMES = ("openvino-encoder", "onnxruntime-encoder")


def example(number: int, length: int = 0) -> Example:
    who, items = WHO[number % 3], [ITEMS[number % 3], ITEMS[(number + 1) % 3]][: 1 + number % 2]
    kind, day = ("bill", "offer")[number % 2], 13 + number % 9
    text = f"{kind} {who} {day}.03.2024\n{', '.join(items)}\n"
    text += "pad pad\n" * (-(-max(0, length - len(text)) // 8))
    record = {"who": who, "when": f"2024-03-{day}", "items": items, "kind": kind}
    return Example.of(text, TASK.canonical(json.dumps(record)), Meta(id=str(number)))


EXAMPLES = [example(number) for number in range(24)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def objective_for(folder: Path, examples: list[Example] = EXAMPLES, window: int = WINDOW) -> Any:
    from tunewright.training.encoders.objectives import objective_of

    tokenizer = TextTokenizer(folder)
    task = TASK.within(window - tokenizer.frame)
    return objective_of(task, EncoderSpec(label_smoothing=0.0), examples, tokenizer)


def trainer_of(folder: Path, scratch: Path, objective: Any, examples: list[Example], **settings: Any) -> Any:
    from tests.training.test_tiny_encoders import spec_of
    from tunewright.training.encoders.rows import encoded
    from tunewright.training.encoders.trainer import build_encoder_trainer
    from tunewright.training.loop.trainer import planned_steps

    spec = spec_of(folder, **settings)
    taught = encoded(objective.training_examples(examples), objective, TextTokenizer(folder), WINDOW, "the window")
    return build_encoder_trainer(
        spec, local(folder), objective, taught, taught[:3], scratch, 0, planned_steps(spec, len(taught))
    )


# Those whose positions are counted in other ways; test_encoders.py has all.
@pytest.fixture(scope="module", params=["bert", "deberta-v2", "modernbert", "roberta"])
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    """(architecture, the folder of one that was trained a few steps, its objective)."""
    home = tmp_path_factory.mktemp(request.param)
    base = write_encoder(request.param, home / "base")
    objective = objective_for(base)
    trainer = trainer_of(
        base,
        home / "scratch",
        objective,
        EXAMPLES,
        max_steps=30,
        encoder={"batch_size": 8, "epochs": 10, "lr": 2e-3, "head_lr": 2e-2, "consistency": 0.0},
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0], "it learns"
    trainer.model.save_pretrained(home / "tuned")
    return request.param, home / "tuned", objective


def asked() -> list[str]:
    """Of some lengths, and longer than the window."""
    return [each.request for each in EXAMPLES[:6]] + [example(7, length).request for length in (40, 60, 150, 150)]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_has_torchs_logits_of_each_token_whoever_is_beside_the_text(
    tuned: tuple[str, Path, Any], tmp_path: Path, runtime: str, precision: str
) -> None:
    import torch

    from tunewright.exporters.encoders import token_outputs
    from tunewright.training.encoders.network import Network
    from tunewright.training.encoders.passes import rows_of

    _, folder, objective = tuned
    assert token_outputs(folder) == objective.outputs
    build(folder, tmp_path / "graph", runtime, precision)
    model, network = EncoderModel(tmp_path / "graph", context=WINDOW, threads=1), Network.load(folder)
    tokenizer = TextTokenizer(folder)
    texts = [tokenizer.encode_framed(each.request[:60]) for each in EXAMPLES[:9]]
    together = model.logits(texts)
    with torch.no_grad():
        torchs = [network(torch.tensor([ids]))[0].numpy() for ids in texts]
    for found, right, padded, ids in zip(together, torchs, rows_of(network, texts), texts, strict=True):
        assert found.shape == right.shape == (len(ids), len(objective.outputs))
        assert np.abs(padded.numpy() - right).max() < EXACT
        assert np.abs(found - right).max() < (EXACT if precision == "fp32" else QUANTISED)
    for ids, found in zip(texts, together, strict=True):
        assert np.array_equal(model.logits([ids])[0], found)


def test_a_graph_answers_alone_as_among_others_and_in_windows(tuned: tuple[str, Path, Any], tmp_path: Path) -> None:
    from tunewright.exporters.encoders import build_encoder

    _, folder, objective = tuned
    build_encoder(folder, tmp_path / "graph", "openvino-encoder", "int8")
    model = EncoderModel(tmp_path / "graph", context=WINDOW, threads=1)
    tagger = RecordTagger(model.logits, TASK, TextTokenizer(folder), objective.outputs, WINDOW)
    assert [len(tagger.prompts(text)) for text in asked()[-3:]] == [2, 3, 3]
    assert all(len(prompt) <= WINDOW for text in asked() for prompt in tagger.prompts(text))
    together = tagger.answers(asked())
    assert together == [tagger.answer(text) for text in asked()]
    for answer in together:
        record = json.loads(answer.text)
        assert TASK.canonical(answer.text) == answer.text, "something can always be read as a name here"
        assert 0 <= answer.confidence <= 1
        assert set(answer.fields) <= {"who", "when", "items[]", "kind"}
        assert {path.removesuffix("[]") for path in answer.fields} == set(record)


def test_validation_answers_as_the_predictor_does(tuned: tuple[str, Path, Any]) -> None:
    from tunewright.training.encoders.network import Network
    from tunewright.training.encoders.rows import encoded

    _, folder, objective = tuned
    tagger = trained_encoder(folder, TASK, WINDOW)
    rows = encoded(EXAMPLES, objective, TextTokenizer(folder), WINDOW, "the window")
    answers, losses = objective.answered(Network.load(folder), rows)
    assert answers == [answer.text for answer in tagger.answers([each.request for each in EXAMPLES])]
    assert all(np.isfinite(losses))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder("bert", tmp_path_factory.mktemp("spans") / "bert")


def test_a_training_learns_to_fill_in_records(bert: Path, tmp_path: Path) -> None:
    objective = objective_for(bert)
    trainer = trainer_of(
        bert,
        tmp_path / "scratch",
        objective,
        EXAMPLES,
        max_steps=150,
        encoder={"batch_size": 8, "epochs": 50, "lr": 2e-3, "head_lr": 1e-2},
    )
    trainer.train()
    trainer.model.save_pretrained(tmp_path / "tuned")
    tagger = trained_encoder(tmp_path / "tuned", TASK, WINDOW)
    right = [tagger.answer(each.request).text == each.answer for each in EXAMPLES]
    assert sum(right) >= 18
    whole = example(3, 150)
    found = json.loads(tagger.answer(whole.request).text)
    assert found["who"] == json.loads(whole.answer)["who"], "it stands in the first of three windows"


def test_a_trained_encoder_spells_a_name_in_capitals_as_records_do(bert: Path, tmp_path: Path) -> None:
    names = ("Koi GmbH", "Olivo GmbH", "Sable GmbH")
    loud = [
        Example.of(
            f"bill {names[n % 3].upper()} oil",
            TASK.canonical(json.dumps({"who": names[n % 3], "kind": "bill"})),
            Meta(id=str(n)),
        )
        for n in range(9)
    ]
    objective = objective_for(bert, loud)
    trainer = trainer_of(bert, tmp_path / "scratch", objective, loud, max_steps=1)
    trainer.train()
    trainer.model.save_pretrained(tmp_path / "tuned")
    tagger = trained_encoder(tmp_path / "tuned", TASK, WINDOW)
    assert json.loads(tagger.answer("HALDEN GMBH").text)["who"] in ("Halden", "GmbH", "Halden GmbH")


@pytest.mark.parametrize("lines", [True, False])
def test_a_lines_end_is_a_token_where_training_has_lines(lines: bool, tmp_path: Path) -> None:
    """Also in the trained encoder's folder, so that every runtime reads it."""
    import tunewright as tw

    with_word_pieces(write_encoder("bert", tmp_path / "base"))
    rows = [{"text": each.request, "label": json.loads(each.answer)} for each in EXAMPLES]
    for row in rows if not lines else []:
        row["text"] = " ".join(str(row["text"]).split())
    write_jsonl(tmp_path / "train.jsonl", rows)
    spec = {
        "name": "lines",
        "model": "base",
        "task": {"kind": "extract", "instruction": "Read this.", "schema": SCHEMA},
        "data": {"train": "train.jsonl", "test_fraction": 0.25, "validation_fraction": 0.0},
        "train": {"encoder": {"epochs": 1}, "num_evaluations": 0, "num_checkpoints": 0},
    }
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    tuned = tw.train(tw.load_spec(tmp_path, [])) / "encoder"
    read = TextTokenizer(tuned).encode_framed("oil\ntea")
    assert (4 in read) == lines
    plain = TextTokenizer(tmp_path / "base").encode_framed("oil\ntea")
    assert [token for token in read if token != 4] == plain


def test_a_row_says_what_it_teaches_and_no_more(bert: Path) -> None:
    objective, tokenizer = objective_for(bert), TextTokenizer(bert)
    row = objective.row(EXAMPLES[0], tokenizer)
    assert objective.describe(row) == "who: Rosa; when: 13.03.2024; items: oil; kind: bill"
    assert len(row["labels"]) == len(row["input_ids"]) + 1
    gold = objective.gold([row, objective.row(EXAMPLES[1], tokenizer)])
    assert gold.shape == (2, 1 + max(len(objective.row(each, tokenizer)["input_ids"]) for each in EXAMPLES[:2]))
    assert gold[:, -1].tolist() == [0, 1]
    assert "who" in objective.rarest([row]) or "when" in objective.rarest([row])


def test_a_long_document_teaches_in_windows(bert: Path) -> None:
    objective, tokenizer = objective_for(bert), TextTokenizer(bert)
    (short,), training_examples = (
        objective.training_examples(EXAMPLES[:1]),
        objective.training_examples([example(3, 150)]),
    )
    assert short is EXAMPLES[0]
    assert len(training_examples) == 3
    assert json.loads(training_examples[0].answer) == json.loads(example(3).answer)
    assert [training_example.answer for training_example in training_examples[1:]] == ["{}"] * 2
    for training_example in training_examples:
        row = objective.row(training_example, tokenizer)
        assert len(row["input_ids"]) <= WINDOW
        assert not row["whole"]
    last = objective.row(training_examples[-1], tokenizer)
    assert last["labels"][-1] == IGNORED, "which kind it is was said in another window"
    said = zip(last["labels"], last["text"].join("^$"), strict=False)
    assert {(label, sign.isspace()) for label, sign in list(said)[1:-1]} == {(0, False), (IGNORED, True)}


def test_losses_are_those_of_the_rows_one_by_one_and_agreeing_readings_cost_nothing(bert: Path) -> None:
    import torch

    objective, tokenizer = objective_for(bert), TextTokenizer(bert)
    rows = [objective.row(each, tokenizer) for each in (EXAMPLES[0], example(3, 50))]
    longest = max(len(row["input_ids"]) for row in rows)
    torch.manual_seed(0)
    logits = torch.randn(2, longest, len(objective.outputs))
    gold = objective.gold(rows)
    alone = [
        objective.loss(logits[n : n + 1, : len(row["input_ids"])], objective.gold([row])) for n, row in enumerate(rows)
    ]
    counts = [sum(label != IGNORED for label in row["labels"]) for row in rows]
    mean = sum(loss * count for loss, count in zip(alone, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(objective.loss(logits, gold), mean)
    heavy = sum(w * loss * count for w, loss, count in zip((2.0, 0.5), alone, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(objective.loss(logits, gold, torch.tensor([2.0, 0.5])), heavy)
    assert float(objective.disagreement(logits, logits, gold)) == pytest.approx(0, abs=1e-6)
    assert float(objective.disagreement(logits, logits.flip(0), gold)) > 0.1


def test_a_field_that_does_not_stand_in_the_texts_is_refused(bert: Path) -> None:
    told = [Example.of("hello there", '{"who":"Rosa","kind":"bill"}', Meta(id=str(n))) for n in range(3)]
    with pytest.raises(UserError, match=r"who \(6 of 9, 67%\)|who \(3 of 9") as error:
        objective_for(bert, [*EXAMPLES[:3], *told, *told])
    assert "tunewright models ls" in str(error.value)


def test_a_required_field_that_nothing_can_be_read_as_is_left_out_without_confidence(bert: Path) -> None:
    schema = {"type": "object", "properties": {"when": {"type": "string", "format": "date"}, "who": {"type": "string"}}}
    task = ExtractTask("Read.", {**schema, "required": ["when"]})

    def says_who(texts: Any) -> list[Any]:
        found = [np.zeros((len(ids), 5)) for ids in texts]
        for logits in found:
            logits[:, 0], logits[1, 3] = 3, 9
        return found

    outputs = ["O", "B dmy when", "I dmy when", "B text who", "I text who"]
    answer = RecordTagger(says_who, task, TextTokenizer(bert), outputs, WINDOW).answer("x hello")
    assert (answer.text, answer.confidence, list(answer.fields)) == ('{"who":"x"}', 0.0, ["who"])


def test_the_fields_of_a_nested_object_may_stand_in_different_windows(bert: Path) -> None:
    place = {"type": "object", "properties": {name: {"type": "string"} for name in ("city", "zip")}}
    place["required"] = ["city", "zip"]
    schema = {"type": "object", "properties": {"to": place}, "required": ["to"]}
    tokenizer, task = TextTokenizer(bert), ExtractTask("Read.", schema, window=64)

    def says_both(texts: Any) -> list[Any]:
        found = [np.zeros((len(ids), 5)) for ids in texts]
        for logits in found:
            logits[:, 0] = 30
        found[0][1, 1] = found[-1][-2, 3] = 60
        return found

    outputs = ["O", "B text to.city", "I text to.city", "B text to.zip", "I text to.zip"]
    answer = RecordTagger(says_both, task, tokenizer, outputs, WINDOW).answer("x " + "hello " * 200 + "y")
    assert json.loads(answer.text) == {"to": {"city": "x", "zip": "y"}}
    assert answer.confidence > 0.99
    assert list(answer.fields) == ["to.city", "to.zip"]


@pytest.mark.parametrize("text", ["x hello", "x " + "hello " * 200], ids=["one window", "many"])
def test_a_required_field_may_be_null_where_the_text_has_no_value(bert: Path, text: str) -> None:
    date = {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}
    schema = {"type": "object", "properties": {"when": date, "who": {"type": "string"}}, "required": ["when", "who"]}
    task = ExtractTask("Read.", schema, window=64)

    def says_who(texts: Any) -> list[Any]:
        found = [np.zeros((len(ids), 5)) for ids in texts]
        for number, logits in enumerate(found):
            logits[:, 0] = 30
            if number == 0:
                logits[1, 3] = 60
        return found

    outputs = ["O", "B dmy when", "I dmy when", "B text who", "I text who"]
    answer = RecordTagger(says_who, task, TextTokenizer(bert), outputs, WINDOW).answer(text)
    assert json.loads(answer.text) == {"when": None, "who": "x"}
    assert answer.confidence > 0.99
