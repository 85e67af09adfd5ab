"""The demo's support tickets: original text, written for this project; the same bytes at every run.

    python examples/tickets/make_data.py examples/tickets/data

Eight routes with thirty-two subjects each, every subject said in six ways (`phrasings.txt`). Four of the six make the
training part, and some of these the `seen` test part; the other two only the `unseen_phrasing` test part: the first
shows memorising, the second whether the model knows what a ticket means. A phrasing has one ticket in a part, so that
every one counts by itself. The column `phrasing` names the sentence a ticket was made from, so that a split can keep
them together. Typos, greetings, signatures and what other routes have settled already are mixed in. It is synthetic
data.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 20240607
SEEN_SUBJECTS = 15
"""Of a route: those that are also asked in a phrasing of the training part."""

PRODUCTS = [
    "Nimbus Router",
    "AeroBrew kettle",
    "Kestrel headset",
    "Luma desk lamp",
    "Tidal NAS",
    "Orbit webcam",
    "Pico label printer",
    "Fjord standing desk",
    "Relay smart plug",
    "Folio e-reader",
]
PLANS = ["Starter", "Team", "Business", "Pro", "Family", "Plus"]
GREETINGS = ["Hi, ", "Hello, ", "Dear team, ", "hey ", "Good morning. ", "Hi support, ", "To whom it may concern: "]
CLOSINGS = [
    " Please help.",
    " Can someone look at this?",
    " This is the second time I write.",
    " Thanks!",
    " Waiting for your answer.",
    " It is quite urgent.",
    " I called twice and nobody picked up.",
    " My customer number is {c}.",
]
# No names: a team would put stand-ins in their place before training (D015).
SIGNATURES = ["\nRegards", "\nBest wishes", "\nKind regards", "\nSent from my phone"]
AROUND = 0.35
"""How often a ticket has a greeting, how often a closing, how often a signature."""
# A second sentence that borrows words of another route, so that single words do not give the label away.
DISTRACTORS = [
    "The {p} itself works fine.",
    "The invoice was correct, that is not the point.",
    "Delivery was quick, by the way.",
    "I can log in without trouble.",
    "I do not want to cancel anything.",
    "I am not asking for a refund.",
    "No defect here, just this.",
    "Order was {o}.",
]
# Around a request, what another route has already settled: a person sees which of the two is asked, word counts don't.
ASIDES = [
    'Last week I wrote "{q}", and that is settled. Now this: {b}',
    'You have already dealt with "{q}". Today: {b}',
    '{b} My other ticket ("{q}") is solved, thank you.',
    '{b} This is not about "{q}", you have answered that.',
]
OFTEN = 0.4
"""How often a ticket has such an aside."""
# Distractors that would contradict the route.
CLASHES = {
    "billing": ["Delivery was quick", "invoice was correct"],
    "refund": ["not asking for a refund"],
    "account_access": ["log in without"],
    "delivery": ["Delivery was quick", "works fine"],
    "defect": ["works fine", "No defect"],
    "cancel": ["not want to cancel", "Delivery was quick"],
    "how_to": [],
    "privacy": [],
}

Ticket = dict[str, str]
rng = random.Random(SEED)


def subjects() -> dict[str, list[list[str]]]:
    """The subjects of each route, each as its phrasings."""
    found: dict[str, list[list[str]]] = {}
    route = ""
    for line in (Path(__file__).parent / "phrasings.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            route = line.strip("[]")
            found[route] = []
        elif line and not line.startswith("#"):
            found[route].append(line.split(" | "))
    return found


def order() -> str:
    return rng.choice(["#%06d", "ORD-%05d", "SO%07d"]) % rng.randint(10000, 999999)


def money() -> str:
    return rng.choice(["$%d.%02d", "EUR %d.%02d", "£%d.%02d"]) % (
        rng.randint(4, 420),
        rng.choice([0, 49, 50, 90, 95, 99]),
    )


def date() -> str:
    dates = [
        "3 March",
        "last Tuesday",
        "the 14th",
        f"2024-05-{rng.randint(1, 28):02d}",
        "two weeks ago",
        "yesterday morning",
        "12/04",
    ]
    return rng.choice(dates)


def fill(text: str) -> str:
    """Replace the placeholders. Every kind is drawn at every call, so that the stream of random numbers is fixed."""
    values = {
        "{m}": money(),
        "{d}": date(),
        "{p}": rng.choice(PRODUCTS),
        "{l}": rng.choice(PLANS),
        "{o}": order(),
        "{c}": f"C{rng.randint(1, 999999):06d}",
    }
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def typo(text: str) -> str:
    words = text.split(" ")
    at = rng.randrange(len(words))
    word = words[at]
    if len(word) > 4 and word.isalpha():
        i = rng.randrange(1, len(word) - 2)
        swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        words[at] = rng.choice([swapped, word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:]])
    return " ".join(words)


def some(texts: list[str], often: float) -> str:
    """One of them, or none."""
    return fill(rng.choice(texts)) if rng.random() < often else ""


def ticket(label: str, phrasing: str, settled: list[str]) -> str:
    """A ticket that asks what a phrasing says.

    Args:
        settled: phrasings of other routes, for asides.
    """
    body = fill(phrasing)
    body = body if rng.random() < 0.5 else body[0].upper() + body[1:]
    body += "" if body.endswith("?") else rng.choice([".", ".", "", " !"])
    if rng.random() < OFTEN:
        body = rng.choice(ASIDES).format(q=fill(rng.choice(settled)), b=body)
    text = some(GREETINGS, AROUND) + body
    fitting = [d for d in DISTRACTORS if not any(clash in d for clash in CLASHES[label])]
    if borrowed := some(fitting, 0.15):
        text += " " + borrowed
    text += some(CLOSINGS, AROUND) + some(SIGNATURES, AROUND)
    for _ in range(rng.choice([0, 0, 0, 0, 0, 1, 1, 2])):
        text = typo(text)
    if rng.random() < 0.18:
        text = text.lower()
    return text.strip()


def tickets() -> dict[str, list[Ticket]]:
    """The three parts; no text occurs twice. Asides of the last are made of phrasings that training never saw, too."""
    drawn: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": [], "test_unseen_phrasing": []}
    for label, found in subjects().items():
        for number, phrasings in enumerate(found):
            named = [
                (label, f"{label}/{number}{letter}", each) for letter, each in zip("abcdef", phrasings, strict=True)
            ]
            first, second, *known = rng.sample(named, len(named))
            drawn["test_unseen_phrasing"] += [first, second]
            drawn["train"] += known
            if number < SEEN_SUBJECTS:
                drawn["test"].append(known[0])
    used: set[str] = set()
    parts: dict[str, list[Ticket]] = {}
    for part, chosen in drawn.items():
        source = drawn["train" if part == "test" else part]
        settled = {route: [said for label, _, said in source if label != route] for route in CLASHES}
        parts[part] = []
        for label, name, phrasing in chosen:
            text = ticket(label, phrasing, settled[label])
            while text.lower() in used:
                text = ticket(label, phrasing, settled[label])
            used.add(text.lower())
            parts[part].append({"text": text, "label": label, "phrasing": name})
        rng.shuffle(parts[part])
    return parts


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "data")
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tickets().items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
