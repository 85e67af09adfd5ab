"""The newest message of a thread. Each case says which text must stay and which must go."""

from __future__ import annotations

import time

import pytest

from tunewright.documents.thread import MOST_LINES, newest

NEW = "The lamp is still broken."
HEADERS = {
    "en": "From: Support <help@shop.example>\nSent: Monday, January 5, 2026 3:04 PM\nTo: Jane\nSubject: Order 1",
    "de": "Von: Kundendienst <kd@laden.example>\nGesendet: Montag, 5. Januar 2026 10:15\nAn: Eva\nBetreff: Auftrag 1",
    "fr": "De : Service <sc@b.example>\nEnvoyé : lundi 5 janvier 2026 10:15\nÀ : Ève\nObjet : Commande",
}
INTRODUCTIONS = [
    "On Mon, Jan 5, 2026 at 3:04 PM Support <help@shop.example> wrote:",
    "On Mon, Jan 5, 2026 at 3:04 PM The Support Team of the Shop <\nhelp@shop.example> wrote:",
    "Am 05.01.2026 um 10:15 schrieb Kundendienst <kd@laden.example>:",
    "Kundendienst <kd@laden.example> schrieb am Mo., 5. Jan. 2026, 10:15:",
    "Le lun. 5 janv. 2026 à 10:15, Service client <sc@boutique.example> a écrit :",
    "Le lun. 5 janv. 2026 à 10:15, Service client <sc@boutique.example> a écrit\xa0:",
    "El lun, 5 ene 2026 a las 10:15, Soporte (<s@t.example>) escribió:",
    "Il giorno lun 5 gen 2026 alle ore 10:15 Supporto <s@t.example> ha scritto:",
    "Op ma 5 jan 2026 om 10:15 schreef Klantenservice <k@w.example>:",
    "Em seg., 5 de jan. de 2026 às 10:15, Suporte <s@t.example> escreveu:",
    "pon., 5 sty 2026 o 10:15 Pomoc <p@s.example> napisał(a):",
    "Den mån 5 jan. 2026 kl 10:15 skrev Kundtjänst <k@w.example>:",
]


@pytest.mark.parametrize("introduction", INTRODUCTIONS)
@pytest.mark.parametrize("quoted", ["> Did you restart it?\n> Regards", "Did you restart it?\nRegards"])
def test_a_replys_quote_is_removed(introduction: str, quoted: str) -> None:
    assert newest(f"{NEW}\n\n{introduction}\n\n{quoted}\n", "Re: Order 1") == NEW


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize(
    "line", ["", "_" * 32 + "\n", "-----Original Message-----\n", "-----Ursprüngliche Nachricht-----\n"]
)
def test_the_headers_of_outlook_begin_a_quote(headers: str, line: str) -> None:
    assert newest(f"{NEW}\n\n{line}{headers}\n\nDid you restart it?\n", "RE: Order 1") == NEW


@pytest.mark.parametrize("mark", ["", "> "])
@pytest.mark.parametrize("count", [4, 9, 40])
def test_headers_with_many_recipients_begin_a_quote(count: int, mark: str) -> None:
    recipients = "; ".join(f"Person {n} <p{n}@c.example>" for n in range(count))
    headers = HEADERS["en"].replace("To: Jane", f"To: {recipients}").split("\n")
    quote = "\n".join(f"{mark}{line}" for line in (*headers, "", "Did you restart it?"))
    assert newest(f"{NEW}\n\n{quote}\n", "RE: Order 1") == NEW


def test_a_quoted_line_that_is_long_comes_back_whole() -> None:
    long = "> " + "word " * 100 + "end"
    assert newest(f"{NEW}\n{long}", "Order 1") == f"{NEW}\n{long}"


def test_quotes_within_quotes_go_with_them() -> None:
    body = f"{NEW}\n\n{INTRODUCTIONS[0]}\n\n> And now?\n>\n> {INTRODUCTIONS[2]}\n>\n>> It is broken.\n"
    assert newest(body, "Re: x") == NEW


def test_an_answer_below_the_quote_stays() -> None:
    assert (
        newest(f"{INTRODUCTIONS[0]}\n> Which model is it?\n> Regards\n\nIt is the X200.\n", "Re: x")
        == "It is the X200."
    )


def test_answers_between_quotes_stay() -> None:
    body = f"{INTRODUCTIONS[0]}\n> Which model?\n\nX200.\n\n> And the number?\n> We need it.\n\n12-34.\n"
    assert newest(body, "Re: x") == "X200.\n\n12-34."


def test_a_quote_without_introduction_goes() -> None:
    assert newest(f"> One\n> two\n> three\n\n{NEW}", "Re: x") == NEW


FORWARDS = {
    "gmail": (
        "---------- Forwarded message ---------\nFrom: Jane <jane@c.example>\nDate: Mon, Jan 5, 2026 at 3:04 PM\n"
        "Subject: Invoice wrong\nTo: <me@c.example>\n\n\n"
    ),
    "apple": (
        "Begin forwarded message:\n\n> From: Jane <jane@c.example>\n> Subject: Invoice wrong\n> Date: 5 January 2026\n"
        "> To: me@c.example\n>\n> "
    ),
    "outlook": "From: Jane <jane@c.example>\nSent: Monday, 5 January 2026\nTo: me\nSubject: Invoice wrong\n\n",
    "german": "Von: Eva <jane@c.example>\nGesendet: Montag, 5. Januar 2026 10:15\nAn: mich\nBetreff: Invoice wrong\n\n",
}


@pytest.mark.parametrize("headers", FORWARDS.values(), ids=FORWARDS)
@pytest.mark.parametrize(
    "subject", ["Fwd: Invoice wrong", "FW: Invoice wrong", "WG: Invoice wrong", "TR : Invoice wrong"]
)
def test_a_forwarded_message_stays_without_its_headers(headers: str, subject: str) -> None:
    text = newest(f"Please handle.\n\n{headers}Invoice 77 is wrong.\n", subject)
    assert text == "Please handle.\n\nInvoice 77 is wrong."


@pytest.mark.parametrize("headers", FORWARDS.values(), ids=FORWARDS)
def test_a_message_without_own_text_keeps_the_forwarded_one(headers: str) -> None:
    assert (
        newest(f"{headers}Invoice 77 is wrong.\n\n{INTRODUCTIONS[0]}\n> older\n", "Invoice") == "Invoice 77 is wrong."
    )


SIGNATURES = [
    "-- \nJane Doe\nACME Inc.\n+1 555 0100",
    "Best regards,\nJane Doe\nACME Inc.\n+1 555 0100",
    "Kind regards\n\nJane",
    "Thanks!\nJane",
    "Mit freundlichen Grüßen\nEva Muster\nFirma GmbH\nTel. 030 1234",
    "Viele Grüsse\nEva",
    "Cordialement,\nÈve Durand\n01 23 45 67",
    "Saludos,\nEva",
    "Sent from my iPhone",
    "Get Outlook for iOS<https://aka.example/o>",
    "Von meinem iPhone gesendet",
    "Envoyé de mon iPhone",
    "This e-mail and any attachments are confidential and intended solely for the addressee.\nDelete it otherwise.",
    "Best regards,\nJane\n\nConfidentiality Notice: this message is for its addressee.\nDelete it if that isn't you.",
    "Diese E-Mail enthält vertrauliche Informationen. Sind Sie nicht gemeint, löschen Sie sie.",
    "Ce message et ses pièces jointes sont confidentiels.",
    "Thanks\nJane\n\nSent from my iPhone",
    "Best regards,\nJane Doe\nHead of Sales\nTel: +1 555 0100, Fax: +1 555 0101\nE-mail: jane@acme.example",
    "Regards\nJane van der Berg\n12 Elm Street, Springfield, IL 62701\nhttps://acme.example\nM: +1 555 0100",
    "Disclaimer\n\nThis e-mail may be privileged.\nIf you are not the intended recipient, delete it.",
    "This e-mail is confidential.\nNotify the sender.\n\nDelete it if you are no addressee.\n\nACME Ltd.",
    "Best regards\nAnn Smith\nAddress: 12 Main St, Springfield",
    "Best regards\nAnn\nDepartment: Sales",
    "Best,\nAnn\nCompany number 1234567",
    "Thanks\nBest regards\n\nAnn Smith\nRegistered office: 12 Main St\nRegistered in England No. 1234567\nTax ID: 12",
    "Mit freundlichen Grüßen\nEva Muster\nFirma GmbH\nGeschäftsführer: Max Mustermann\nSteuernummer: 12/345/6789",
    "Best regards\nAnn\nManaging Directors: Bo Ray, Cy Poe\nOpening hours: Mon to Fri, 9 am to 5 pm\nHotline: 555 01",
    "--\nAnn Smith\nAcme Corporation Limited, High Street London",
    "Best regards,\nAnn Smith\nHead of Research and Development for Europe",
    "--\nAnn Smith\nPronouns: she/her\nTel: 555 0100",
    "Best regards\nAnn\n\nAddress: 12 Main St\n\nThis message is confidential and intended only for the addressee.",
]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_signatures_and_disclaimers_go(signature: str) -> None:
    assert newest(f"{NEW}\n\n{signature}\n", "x") == NEW


@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_signature_above_a_quote_goes(signature: str) -> None:
    assert newest(f"{NEW}\n\n{signature}\n\n{INTRODUCTIONS[0]}\n> old\n", "Re: x") == NEW


@pytest.mark.parametrize(
    "text",
    [
        "Hello,\nThanks, but the parcel has not arrived. I want a refund.",
        "Hi,\n\nThank you, I got your mail, yet the invoice is wrong.\nPlease correct it.",
        "Thanks\n\nOne more thing: the door jams too.\nCan you send somebody?",
        "Three problems:\n- the door jams\n- the light is out",
        "Name: Jane\nDate: 2026-01-05\nSubject: Broken lamp\nMessage: The lamp is broken.",
        "I want to change my booking.\nFrom: 12 May\nTo: 15 May\nPlease confirm.",
        "Hinweis: die Mail an die Kasse kam zurück. Bitte prüfen Sie die Adresse.",
        "On Monday the driver came. The note he wrote:\nno access\nPlease deliver again.",
        "The file is lost:\n/home/jane/report\nPlease restore it.",
        "Here is the log:\n________________________________\nerror 5\nPlease look.",
        "> 5 of the lamps are broken",
        "Best",
        "Disclaimer: none\nof these lamps works.",
        "please close my account.\nThanks\nAccount number 12345\nReason - moving abroad\nDo it by Friday",
        "Please close my account.\nThanks\nCustomer 12345",
        "Please close my account.\nThank you\nKontonummer 12345",
        "Hi there\n\nBest\nPlease cancel my order",
        "Please change my data.\nThanks\nAddress: 12 Main St, Springfield",
        "Please close my account.\nThanks\nAnn\nAccount number 12345",
        "Please change my plan.\nThanks\nCY POE\nPLEASE CANCEL MY OLD CONTRACT TODAY",
        "Hello\nThanks\nAnn\nCompany policy is not my problem",
        "Order: 1\n--\nProblem: broken screen\n--\nWanted: refund",
        "Order 1\n--\nProblem\n--\nWanted: refund",
        "Hello\n--\nAnn\nOrder: 1\nProblem: broken screen",
        "Hello\n--\nAnn\nplease cancel my order",
        "Hello\nSent from my iPad\n\nthe screen of it broke yesterday",
        "Hello\nThis message from your app says my card data is confidential\nI can't log in\nPlease help",
        "Hello\n\nThis message from your app says my card data is confidential\n\nI can't log in",
        "Hello\n\nThis message is intended for your accounts team: please refund order 4711.",
        "Hello\n\nThis e-mail is confidential and intended solely for the addressee.\n\nPlease refund order 4711.",
    ],
)
def test_text_that_only_looks_like_a_quote_stays(text: str) -> None:
    assert newest(text, "Problem") == text


def test_a_long_message_keeps_its_end() -> None:
    lines = [f"line {n}" for n in range(MOST_LINES + 500)]
    assert newest("\n".join(lines), "x").split("\n") == lines
    below = newest(f"{INTRODUCTIONS[0]}\n> old\n\n" + "\n".join(lines) + "\n> more\nend", "Re: x").split("\n")
    assert below == [*lines, "end"]


@pytest.mark.parametrize(
    "body",
    [
        "On " + "a " * 500_000,
        "On monday a\n" * 80_000,
        "a: b\n" * 200_000,
        " " * 1_000_000 + "x",
        "> a\n" * 250_000,
        "-" * 1_000_000,
        "best\n" * 200_000,
        "Am schrieb " * 90_000,
        "Op heeft " * 100_000,
        "> " * 500_000,
        "".join(f"{'> ' * n}On Mon 2026, a@b wrote:\n" for n in range(700)),
        "This message " * 70_000,
        "\0" * 1_000_000,
    ],
)
def test_a_megabyte_of_anything_takes_seconds_not_minutes(body: str) -> None:
    started = time.monotonic()
    newest(body, "Re: x")
    assert time.monotonic() - started < 60


def test_a_long_line_comes_back_whole() -> None:
    long = "word " * 1000
    assert newest(f"{long}\n\n{INTRODUCTIONS[0]}\n> {long}\n", "Re: x") == long.strip()
