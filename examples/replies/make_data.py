"""The demo's replies: an answer to each ticket of examples/tickets, by the rules of a shop that does not exist.

    python examples/replies/make_data.py examples/replies/data

An answer depends on the ticket's route, on what it says (amount, order number, product), and on who signed it. The
tickets lie in examples/tickets/data and have their parts: train, test, and a test of phrasings that train lacks.
The same bytes at every run. It is synthetic data.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

TICKETS = Path(__file__).parents[1] / "tickets" / "data"

# {amount}, {order}, {product}: with the words before them, or nothing where the ticket names none
RULES = {
    "billing": "our billing team checks the payment{ of amount} and sends you a corrected invoice within two days.",
    "refund": "your refund{ of amount}{ for order} is on its way. The money is in your account within five days.",
    "cancel": "we have cancelled what you asked for{ under order}. Nothing will be charged from now on.",
    "defect": "we are sorry about your {product}. A replacement leaves our warehouse tomorrow, and you can "
    "keep the old one.",
    "delivery": "your parcel{ for order} is with the carrier. If it has not arrived in two days, we send it again.",
    "how_to": "the guide for your {product} is at help.example.com, with pictures of every step. Write again if "
    "one of them does not help.",
    "account_access": "use the link at login.example.com/reset, which works for 24 hours. Nobody at our desk ever "
    "asks for your password.",
    "privacy": "our data protection officer answers within 30 days, as the law asks, and confirms in writing what "
    "was done.",
}
AMOUNT = re.compile(r"(?:[£$€]|EUR |USD |GBP )\d[\d,]*\.\d\d")
ORDER = re.compile(r"#\d{6}|ORD-\d{4,6}|SO\d{7}")
PRODUCT = re.compile(
    r"nimbus router|aerobrew kettle|kestrel headset|luma desk lamp|tidal nas|orbit webcam|pico label printer"
    r"|fjord standing desk|relay smart plug|quill e-reader",
    re.IGNORECASE,
)
SIGNED = re.compile(r"\n(?:best, |regards\n|-- )?([a-z]+)$", re.IGNORECASE)


def reply(text: str, route: str) -> str:
    amount, order, product, signed = (pattern.search(text) for pattern in (AMOUNT, ORDER, PRODUCT, SIGNED))
    body = RULES[route].replace("{product}", product[0] if product else "device")
    body = re.sub(r"\{( \w+ )amount\}", rf"\g<1>{amount[0]}" if amount else "", body)
    body = re.sub(r"\{( \w+ )order\}", rf"\g<1>{order[0]}" if order else "", body)
    return f"Hello {signed[1].title() if signed else 'and thank you for writing'},\n{body}\nYour support team"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(TICKETS.glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        lines = [
            {"text": row["text"], "reply": reply(row["text"], row["label"]), "phrasing": row["phrasing"]}
            for row in rows
        ]
        (folder / file.name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
