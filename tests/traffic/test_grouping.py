"""Requests of one job are found to belong together, whatever their prompts carry beside the template."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from faker import Faker
from sklearn.metrics import adjusted_rand_score

from tunewright.gateway.jobs.prompts import PLAIN, Prompt, read_prompt
from tunewright.traffic.grouping import JobFinder

PREAMBLE = (
    "You are the assistant of a household goods shop with branches in eleven countries. Be polite, never promise "
    "refunds, never name other shops, and follow the house style of short sentences."
)
Maker = Callable[[Faker, random.Random], dict[str, Any]]


def chat(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in messages], **more}


def text_of(fake: Faker, _: random.Random) -> str:
    return str(fake.paragraph(nb_sentences=3))


def with_a_template(fake: Faker, chance: random.Random) -> dict[str, Any]:
    return chat(("user", f'Which intent has this request?\n\nRequest: "{text_of(fake, chance)}"\nIntent:'))


def with_variables_in_the_system_prompt(fake: Faker, chance: random.Random) -> dict[str, Any]:
    system = (
        f"You route tickets of {fake.company()}. Today is {fake.date()}. The agent on duty is {fake.name()}. Answer "
        "with the queue only: billing, delivery, account, or other."
    )
    return chat(("developer", system), ("user", text_of(fake, chance)))


def with_a_value_of_few(fake: Faker, chance: random.Random) -> dict[str, Any]:
    tone = chance.choice(("friendly and warm", "formal", "brief"))
    return chat(("system", f"Rewrite the customer's letter in a tone that is {tone}."), ("user", text_of(fake, chance)))


def one_of_a_shared_preamble(fake: Faker, chance: random.Random) -> dict[str, Any]:
    task = "Say which product category the message below is about, with one word and nothing else."
    return chat(("system", f"{PREAMBLE}\n\n{task}"), ("user", text_of(fake, chance)))


def another_of_a_shared_preamble(fake: Faker, chance: random.Random) -> dict[str, Any]:
    task = f"Draft a reply to {fake.name()} in at most three sentences, and sign it with the team's name."
    return chat(("system", f"{PREAMBLE}\n\n{task}"), ("user", text_of(fake, chance)))


def short_to_french(fake: Faker, chance: random.Random) -> dict[str, Any]:
    return chat(("user", f"Translate to French: {text_of(fake, chance)}"))


def short_to_german(fake: Faker, chance: random.Random) -> dict[str, Any]:
    return chat(("user", f"Translate to German: {text_of(fake, chance)}"))


def with_a_tool(fake: Faker, chance: random.Random) -> dict[str, Any]:
    return chat(("user", text_of(fake, chance)), tools=[{"type": "function", "function": {"name": "save"}}])


def with_looked_up_passages(fake: Faker, chance: random.Random) -> dict[str, Any]:
    pool = Faker(use_weighting=False)
    pool.seed_instance(5)
    passages = [pool.paragraph(nb_sentences=8) for _ in range(30)]
    looked_up = "\n\n".join(chance.sample(passages, 3))
    system = "Answer the question from the passages only. If they don't tell, say so."
    return chat(("system", system), ("user", f"Passages:\n{looked_up}\n\nQuestion: {text_of(fake, chance)}"))


def in_two_versions(fake: Faker, chance: random.Random) -> dict[str, Any]:
    system = "Judge how urgent the customer's message is. Answer with low, medium or high and no other word."
    if chance.random() < 0.5:
        system += " Lost cards are high."
    return chat(("system", system), ("user", text_of(fake, chance)))


JOBS: list[Maker] = [
    with_a_template,
    with_variables_in_the_system_prompt,
    with_a_value_of_few,
    one_of_a_shared_preamble,
    another_of_a_shared_preamble,
    short_to_french,
    short_to_german,
    with_a_tool,
    with_looked_up_passages,
    in_two_versions,
]


def mixed(makers: list[Maker], each: int, noise: int = 0, seed: int = 1) -> list[tuple[str, Prompt]]:
    fake, chance = Faker(), random.Random(seed)
    fake.seed_instance(seed)
    made = [(make.__name__, make(fake, chance)) for make in makers for _ in range(each)]
    made += [("none", chat(("user", str(fake.paragraph(nb_sentences=chance.randint(1, 9)))))) for _ in range(noise)]
    chance.shuffle(made)
    return [(name, read_prompt("chat", body)) for name, body in made]


def grouped(prompts: list[Prompt]) -> tuple[JobFinder, list[int | None]]:
    finder = JobFinder()
    finder.add(prompts)
    finder.find()
    return finder, [finder.job_of(prompt) for prompt in prompts]


@pytest.mark.slow
def test_jobs_of_every_form_are_told_apart() -> None:
    rows = mixed(JOBS, each=150, noise=60)
    finder, jobs = grouped([prompt for _, prompt in rows])
    true = [name for name, _ in rows]
    went = Counter(zip(true, jobs, strict=True))
    assert len(finder.jobs) == len(JOBS), went
    assert adjusted_rand_score(true, [-1 if job is None else job for job in jobs]) >= 0.98
    assert {job for name, job in zip(true, jobs, strict=True) if name == "none"} == {None}


@pytest.mark.slow
@pytest.mark.parametrize("make", JOBS)
def test_one_job_alone_is_one_job(make: Maker) -> None:
    finder, jobs = grouped([prompt for _, prompt in mixed([make], each=200)])
    assert len(finder.jobs) == 1
    assert Counter(jobs)[0] >= 198


def test_jobs_are_told_apart_behind_any_preamble() -> None:
    fake = Faker()
    fake.seed_instance(8)
    preamble = fake.paragraph(nb_sentences=60)
    tasks = ("Say which of our warehouses has to send what the customer asks for.", "List the dates in the text below.")

    def made(number: int) -> Prompt:
        system = f"{preamble}\n\n{tasks[number % 2]}"
        return read_prompt("chat", chat(("system", system), ("user", fake.paragraph(nb_sentences=3))))

    finder, jobs = grouped([made(number) for number in range(200)])
    assert len(finder.jobs) == 2
    assert len({jobs[number] for number in range(0, 200, 2)}) == len({jobs[number] for number in range(1, 200, 2)}) == 1


DISCLAIMER = (
    "This message and its attachments are confidential and meant for the addressee alone. If you are not the "
    "addressee, tell the sender, delete the message, and neither copy nor use what it holds in any way."
)


def mail(fake: Faker, chance: random.Random) -> str:
    return f"{text_of(fake, chance)}\n{DISCLAIMER if chance.random() < 0.7 else ''}"


def of_mails_one(fake: Faker, chance: random.Random) -> dict[str, Any]:
    return chat(("user", f"Sum this mail up in three points for the account manager:\n\n{mail(fake, chance)}"))


def of_mails_another(fake: Faker, chance: random.Random) -> dict[str, Any]:
    return chat(("user", f"List what has to be done by whom according to this mail:\n\n{mail(fake, chance)}"))


def with_forms_of_few_firms(fake: Faker, chance: random.Random) -> dict[str, Any]:
    """Most texts come in the layout of one of three firms."""
    firm = chance.choice(("Alpha", "Beta", "Gamma", ""))
    form = f"{firm} company, invoice to be paid within thirty days to {firm} bank, account of {firm} trading, "
    system = "Extract the fields of the invoice that the user sends, and answer with the JSON object alone."
    return chat(("system", system), ("user", f"{form * bool(firm)}{text_of(fake, chance)}"))


def test_a_signature_that_recurs_hides_no_instruction() -> None:
    rows = mixed([of_mails_one, of_mails_another, short_to_french], each=150, noise=20)
    finder, jobs = grouped([prompt for _, prompt in rows])
    went = Counter((name, job) for (name, _), job in zip(rows, jobs, strict=True))
    assert len(finder.jobs) == 3, went
    assert adjusted_rand_score([name for name, _ in rows], [-1 if job is None else job for job in jobs]) >= 0.98, went


def test_layouts_behind_one_system_prompt_are_one_job() -> None:
    rows = mixed([with_forms_of_few_firms, one_of_a_shared_preamble], each=240)
    finder, _ = grouped([prompt for _, prompt in rows])
    assert len(finder.jobs) == 2


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.92, 0.97])
def test_a_job_that_is_nearly_all_of_the_traffic_hides_no_other(share: float) -> None:
    few = round(1000 * (1 - share))
    rows = mixed([with_variables_in_the_system_prompt], each=1000 - few) + mixed([with_a_template], each=few, seed=2)
    finder, jobs = grouped([prompt for _, prompt in rows])
    assert len(finder.jobs) == 2
    assert adjusted_rand_score([name for name, _ in rows], jobs) >= 0.98


def test_requests_that_share_nothing_are_no_job() -> None:
    finder, jobs = grouped([prompt for _, prompt in mixed([], each=0, noise=300)])
    assert finder.jobs == []
    assert set(jobs) == {None}


@pytest.mark.slow
def test_a_flood_of_junk_makes_few_jobs() -> None:
    chance = random.Random(2)
    junk = [chat(("user", "x"), tools=[{"type": chr(97 + chance.randrange(26)) * number}]) for number in range(3000)]
    finder = JobFinder()
    finder.add(read_prompt("chat", body) for body in junk)
    finder.find()
    assert len(finder.jobs) <= 300


def test_a_job_that_was_not_in_the_sample_belongs_to_none() -> None:
    finder, _ = grouped([prompt for _, prompt in mixed([short_to_french], each=100)])
    assert finder.job_of(mixed([with_a_template], each=1)[0][1]) is None
    assert finder.job_of(mixed([with_a_tool], each=1)[0][1]) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {"messages": [1, None, {"role": 3}, {"role": "user"}, {"role": "user", "content": 3}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"text": 3}, "a", None]}]},
        {"messages": [], "tools": 3, "response_format": "x"},
        {"messages": [], "tools": [None, {"function": 3}], "response_format": {"type": 3, "json_schema": [[]]}},
        {"input": {"a": 1}, "prompt": [[1, 2]], "text": 3},
    ],
)
@pytest.mark.parametrize("kind", ["chat", "responses", "completions", "embeddings"])
def test_any_body_is_a_prompt(kind: str, body: dict[str, Any]) -> None:
    _, jobs = grouped([read_prompt(kind, body)] * 30)
    assert len(set(jobs)) == 1


def test_a_prompt_is_the_same_in_both_apis() -> None:
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    expected = (("system", "Be brief."), ("user", "hello"))
    assert read_prompt("chat", {"messages": messages}).messages == expected
    assert read_prompt("responses", {"input": messages}).messages == expected
    assert read_prompt("responses", {"instructions": "Be brief.", "input": "hello"}).messages == expected
    form = {"type": "json_schema", "name": "a", "schema": {"properties": {"b": {"properties": {"c": {}}}}}}
    chat_form = {"type": "json_schema", "json_schema": {"name": "a", "schema": form["schema"]}}
    asked = read_prompt("responses", {"input": "", "text": {"format": form}}).form
    assert asked == read_prompt("chat", {"messages": [], "response_format": chat_form}).form != PLAIN
