"""The demo's support tickets: original text, written for this project; the same bytes at every run.

    python examples/tickets/make_data.py examples/tickets/data

Eight routes with fourteen phrasings each. Ten phrasings of a route make the training and the `seen` test part, the
other four only the `unseen_phrasing` test part: the first shows memorising, the second whether the model knows what a
ticket means. The column `phrasing` names the sentence a ticket was made from, so that a split can keep them together.
Typos, greetings, signatures and sentences that borrow another route's words are mixed in. It is synthetic data.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 20240607
TRAIN_EACH, SEEN_EACH, UNSEEN_EACH = 8, 2, 5
SEEN_PHRASINGS = 10

PRODUCTS = ["Nimbus Router", "AeroBrew kettle", "Kestrel headset", "Luma desk lamp", "Tidal NAS", "Orbit webcam",
            "Pico label printer", "Fjord standing desk", "Relay smart plug", "Quill e-reader"]  # fmt: skip
PLANS = ["Starter", "Team", "Business", "Pro", "Family", "Plus"]
NAMES = ["Amara", "Bo", "Chidi", "Dana", "Emre", "Farah", "Goran", "Hana", "Ilse", "Jonas", "Kaito", "Lena", "Mateo",
         "Nadia", "Omar", "Petra", "Quinn", "Rosa", "Sven", "Tariq", "Uma", "Vera", "Wen", "Xenia", "Yusuf",
         "Zofia"]  # fmt: skip

# {m} money, {d} date, {p} product, {l} plan, {o} order number, {c} customer number, {n} name
PHRASINGS = {
    "billing": [
        "I was charged {m} twice on {d} for the same {l} plan",
        "my card shows a payment of {m} that I don't recognise from you",
        "the invoice for {d} says {m} but our contract says less",
        "why did the price of the {l} plan go up to {m} this month?",
        "VAT number is missing on the invoice from {d}, accounting will not book it",
        "we need a copy of the receipt for {m}",
        "payment keeps failing although the card works elsewhere",
        "my discount code was not applied, I paid the full {m}",
        "can the invoice be addressed to our company name instead of mine?",
        "I downgraded but this month's bill is still at the {l} rate",
        "there is a {m} fee on the statement nobody told us about",
        "please switch us from card to bank transfer for the {l} plan",
        "the auto-renewal took {m} from an expired card's replacement, how?",
        "need a purchase order number printed on the next bill",
    ],
    "refund": [
        "I sent the {p} back on {d} and still have no money",
        "please refund {m}, I returned {o} unopened",
        "how long until the {m} goes back to my card? return was accepted {d}",
        "the shop credited only part of the price of the {p}, the rest is missing",
        "I want my money back for {o}",
        "you promised reimbursement of {m} for the late parcel",
        "the return was marked received but nothing was paid out",
        "I was told to expect {m} by {d}, it never came",
        "can I get cash instead of a voucher for the {p} I gave back?",
        "order {o} was called off before shipping, when is the {m} returned?",
        "refund went to a closed bank account, please resend it",
        "the trial charged me and I asked for it back within a day",
        "you credited {m} to the wrong card",
        "half of {o} went back, I'd like that half reimbursed",
    ],
    "account_access": [
        "I can't log in, the reset mail never arrives",
        "two factor codes from my old phone, how do I get in now?",
        "my account is locked after too many attempts",
        "login page says user unknown since {d}",
        "need to change the email address I sign in with",
        "my colleague left and we cannot get into his workspace",
        "the reset link says expired the moment I click it",
        "SSO sends me round in a loop back to the sign-in page",
        "someone changed my password and I am shut out",
        "I forgot which address I registered with",
        "the app signs me out every few minutes",
        "authenticator was wiped, backup codes lost",
        "admin rights disappeared from my profile on {d}",
        "it says my password is wrong but I just set it",
    ],
    "delivery": [
        "where is {o}? tracking has not moved since {d}",
        "parcel says delivered but nothing is here",
        "the {p} was due {d} and is still in the depot",
        "courier left {o} with a neighbour I don't know",
        "can I change the address for {o} before it ships?",
        "only two of three boxes arrived",
        "when will the {p} I ordered on {d} be sent?",
        "tracking number for {o} doesn't exist",
        "driver said nobody home, we were home all day",
        "please hold {o}, we are away until {d}",
        "package is stuck at customs, do you need papers from me?",
        "the box for {o} went to my old street",
        "I need it before {d}, can it go express?",
        "no dispatch notice yet for {o}",
    ],
    "defect": [
        "the {p} stopped turning on after {d}",
        "my {p} makes a grinding noise and smells burnt",
        "screen of the {p} flickers all the time",
        "{p} arrived cracked out of the box",
        "the {p} drops the connection every ten minutes",
        "left side of my {p} is silent",
        "firmware update on {d} bricked the {p}",
        "the battery of the {p} lasts twenty minutes now",
        "{p} overheats and shuts off",
        "a button on the {p} fell off in the first week",
        "the {p} shows error E42 and beeps",
        "one leg of the {p} is shorter, it wobbles",
        "the {p} won't charge with any cable",
        "dead pixels across my {p}",
    ],
    "cancel": [
        "please end my {l} subscription, I don't need it any more",
        "how do I stop the renewal of the {l} plan?",
        "we are closing the company, terminate the contract by {d}",
        "I want to cancel {o} before it is sent",
        "I pressed cancel but it still says active",
        "take me off the {l} plan at the end of the month",
        "not happy, want to leave, what is the notice period?",
        "stop my membership immediately",
        "I signed up for {l} by mistake, undo it",
        "do not extend our contract after {d}",
        "there is no unsubscribe button for the {l} plan",
        "call off the order {o}, I found it cheaper",
        "switching to another supplier, please wind down our {l} seats",
        "my late father's subscription has to be ended",
    ],
    "how_to": [
        "how do I connect the {p} to a second network?",
        "is there a way to export all data as CSV in {l}?",
        "where do I find the manual for the {p}?",
        "can the {p} be mounted on a wall?",
        "does {l} include an API?",
        "how many people can share one {l} plan?",
        "which cable do I need for the {p}?",
        "how can I turn off the blue light on the {p}?",
        "does the {p} work with 110 volts?",
        "what is the difference between {l} and the next tier?",
        "can I schedule reports to be mailed every Monday?",
        "how do I pair the {p} with my phone?",
        "is dark mode available?",
        "steps to add a logo to my page please",
    ],
    "privacy": [
        "delete all personal data you hold about me",
        "I want a copy of everything stored under my name",
        "please stop sending me marketing mail",
        "who did you share my phone number with?",
        "we need a signed data processing agreement for {l}",
        "remove my old address from your records",
        "is our data kept inside the EU on {l}?",
        "I withdraw my consent from {d}",
        "my invoice shows another customer's name and street",
        "how long do you keep call recordings?",
        "did the leak on {d} include my account?",
        "the {p} uploads voice clips, how do I forbid that?",
        "take my review with my full name off the site",
        "which subprocessors handle {l} data?",
    ],
}
GREETINGS = ["", "", "", "Hi, ", "Hello, ", "Dear team, ", "hey ", "Good morning. ", "Hi support, ",
             "To whom it may concern: "]  # fmt: skip
CLOSINGS = [
    "", "", "", " Please help.", " Can someone look at this?", " This is the second time I write.", " Thanks!",
    " Waiting for your answer.", " It is quite urgent.", " I called twice and nobody picked up.",
    " My customer number is {c}.", " I have been with you for years and like the product otherwise.",
]  # fmt: skip
SIGNATURES = ["", "", "", "\n{n}", "\nBest, {n}", "\nRegards\n{n}", "\n-- {n}"]
# A second sentence that borrows words of another route, so that single words do not give the label away.
DISTRACTORS = ["The {p} itself works fine.", "The invoice was correct, that is not the point.",
               "Delivery was quick, by the way.", "I can log in without trouble.", "I do not want to cancel anything.",
               "I am not asking for a refund.", "No defect here, just this.", "Order was {o}."]  # fmt: skip
# Distractors that would contradict the route.
CLASHES = {
    "billing": ["Delivery was quick", "invoice was correct"],
    "refund": ["not asking for a refund"],
    "account_access": ["log in without"],
    "delivery": ["Delivery was quick"],
    "defect": ["works fine", "No defect"],
    "cancel": ["not want to cancel"],
    "how_to": [],
    "privacy": [],
}

Ticket = dict[str, str]
rng = random.Random(SEED)


def order() -> str:
    return rng.choice(["#%06d", "ORD-%05d", "SO%07d"]) % rng.randint(10000, 999999)


def money() -> str:
    return rng.choice(["$%d.%02d", "EUR %d.%02d", "£%d.%02d"]) % (
        rng.randint(4, 420), rng.choice([0, 49, 50, 90, 95, 99]))  # fmt: skip


def date() -> str:
    dates = ["3 March", "last Tuesday", "the 14th", f"2024-05-{rng.randint(1, 28):02d}", "two weeks ago",
             "yesterday morning", "12/04"]  # fmt: skip
    return rng.choice(dates)


def fill(text: str) -> str:
    """Replace the placeholders. Every kind is drawn at every call, so that the stream of random numbers is fixed."""
    values = {"{m}": money(), "{d}": date(), "{p}": rng.choice(PRODUCTS), "{l}": rng.choice(PLANS), "{o}": order(),
              "{c}": f"C{rng.randint(1, 999999):06d}", "{n}": rng.choice(NAMES)}  # fmt: skip
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


def ticket(label: str, phrasing: str) -> str:
    body = fill(phrasing)
    text = fill(rng.choice(GREETINGS))
    text += body if rng.random() < 0.5 else body[0].upper() + body[1:]
    text += "" if body.endswith("?") else rng.choice([".", ".", "", " !"])
    if rng.random() < 0.3:
        fitting = [d for d in DISTRACTORS if not any(clash in d for clash in CLASHES[label])]
        text += " " + fill(rng.choice(fitting))
    text += fill(rng.choice(CLOSINGS)) + fill(rng.choice(SIGNATURES))
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        text = typo(text)
    if rng.random() < 0.18:
        text = text.lower()
    return text.strip()


def tickets() -> dict[str, list[Ticket]]:
    """The three parts; no text occurs twice."""
    parts: dict[str, list[Ticket]] = {"train": [], "test": [], "test_unseen_phrasing": []}
    used: set[str] = set()

    def add(part: str, label: str, phrasing: str, count: int) -> None:
        wanted = len(parts[part]) + count
        while len(parts[part]) < wanted:
            text = ticket(label, phrasing)
            if text.lower() not in used:
                used.add(text.lower())
                name = f"{label}/{PHRASINGS[label].index(phrasing)}"
                parts[part].append({"text": text, "label": label, "phrasing": name})

    for label, phrasings in PHRASINGS.items():
        shuffled = phrasings.copy()
        rng.shuffle(shuffled)
        for phrasing in shuffled[:SEEN_PHRASINGS]:
            add("train", label, phrasing, TRAIN_EACH)
            add("test", label, phrasing, SEEN_EACH)
        for phrasing in shuffled[SEEN_PHRASINGS:]:
            add("test_unseen_phrasing", label, phrasing, UNSEEN_EACH)
    for part in parts.values():
        rng.shuffle(part)
    return parts


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "data")
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tickets().items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
