from __future__ import annotations

import email.policy
import random
from email.message import EmailMessage

import pytest

from tunewright.core.errors import UserError
from tunewright.documents.kinds import text_of


def mail(
    body: str | None = "The lamp is broken.", subject: str = "Order 17", markup: str | None = None
) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Jane Doe <jane@c.example>", "help@shop.example", subject
    message["Date"] = "Mon, 05 Jan 2026 10:15:00 +0100"
    if body is not None:
        message.set_content(body)
    if markup is not None and body is not None:
        message.add_alternative(markup, subtype="html")
    elif markup is not None:
        message.set_content(markup, subtype="html")
    return message


def text_of_message(message: EmailMessage | bytes) -> str:
    return text_of("ticket.eml", message if isinstance(message, bytes) else message.as_bytes())


def test_subject_and_text_and_nothing_else() -> None:
    assert text_of_message(mail()) == "Subject: Order 17\n\nThe lamp is broken."


def test_a_mail_is_known_by_its_headers() -> None:
    assert text_of("upload", mail().as_bytes()) == "Subject: Order 17\n\nThe lamp is broken."
    received = b"Received: from a by b;\r\n Mon, 5 Jan 2026\r\nX-Spam: no\r\n" + mail().as_bytes()
    assert text_of("1234", received) == "Subject: Order 17\n\nThe lamp is broken."


def test_an_encoded_subject() -> None:
    assert text_of_message(
        mail(subject="Größe zu klein, bitte tauschen 🙁 und zwar so schnell, wie es nur irgend möglich ist")
    ) == (
        "Subject: Größe zu klein, bitte tauschen 🙁 und zwar so schnell, wie es nur irgend möglich ist"
        "\n\nThe lamp is broken."
    )


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"=?iso-8859-1?q?Gr=F6=DFe?= =?utf-8?b?4pyT?=", "Größe✓"),
        (b"Gr\xc3\xb6\xc3\x9fe", "Größe"),
        (b"Gr\xf6\xdfe", "Größe"),
        (b"=?no-such-charset?q?Gr=C3=B6=C3=9Fe?=", "Größe"),
        (b"=?utf-8?q?Gr=F6=DFe?=", "Größe"),
        (b"=?utf-8?b?!!!!?= rest", "rest"),
        (b"=?utf-8?b?R3I", "=?utf-8?b?R3I"),
    ],
)
def test_a_broken_subject_is_decoded(raw: bytes, subject: str) -> None:
    text = text_of_message(b"From: a@b.example\nSubject: " + raw + b"\n\nbody\n")
    assert subject in text
    assert text.endswith("\n\nbody")


@pytest.mark.parametrize(
    ("charset", "encoding", "content"),
    [
        ("utf-8", "quoted-printable", b"Gr=F6=DFe"),
        ("utf-8", "quoted-printable", b"Gr=C3=B6=C3=9Fe"),
        ("iso-8859-1", "quoted-printable", b"Gr=F6=DFe"),
        ("iso-8859-1", "quoted-printable", b"Gr=C3=B6=C3=9Fe"),
        ("us-ascii", "8bit", b"Gr\xf6\xdfe"),
        ("us-ascii", "8bit", b"Gr\xc3\xb6\xc3\x9fe"),
        ("no-such-charset", "8bit", b"Gr\xf6\xdfe"),
        ("", "8bit", b"Gr\xf6\xdfe"),
        ("base64", "8bit", b"Gr\xf6\xdfe"),
        ("utf-8", "no-such-encoding", b"Gr\xc3\xb6\xc3\x9fe"),
        ("utf-8", "base64", b"R3LDtsOfZQ"),
        ("utf-8", "base64", b"R3LD\ntsOf\n ZQ=="),
    ],
)
def test_a_body_with_a_wrong_charset_is_decoded(charset: str, encoding: str, content: bytes) -> None:
    head = f"Subject: x\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n"
    assert text_of_message(head.encode() + content) == "Subject: x\n\nGröße"


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("iso-2022-jp", "ランプが壊れて"),
        ("windows-1251", "Лампа сломана"),
        ("utf-16", "Lampe"),
        ("gb18030", "灯坏了"),
        ("windows-1255", "המנורה שבורה"),
    ],
)
def test_other_scripts_in_their_own_charsets(charset: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content(text.encode(charset), "text", "plain", cte="base64")
    message.set_param("charset", charset)
    assert text_of_message(message) == f"Subject: x\n\n{text}"


def test_the_plain_text_is_taken_unless_it_is_blank() -> None:
    assert text_of_message(mail("plain", markup="<p>rich</p>")) == "Subject: Order 17\n\nplain"
    assert text_of_message(mail(" \n", markup="<p>rich</p>")) == "Subject: Order 17\n\nrich"


def test_html_alone_is_text_with_its_tables_in_columns() -> None:
    markup = (
        "<html><head><style>p {color: red}</style></head><body><p>Dear&nbsp;all,</p><script>alert(1)</script><table>"
        "<tr><td>Lamp</td><td>21.00</td></tr><tr><td>Long chair</td><td>99.00</td></tr></table></body></html>"
    )
    assert text_of_message(mail(None, markup=markup)).split("\n\n") == [
        "Subject: Order 17",
        "Dear all,",
        "Lamp        21.00\nLong chair  99.00",
    ]


@pytest.mark.parametrize(
    "quote",
    [
        '<div class="gmail_quote"><div dir="ltr">On Mon, Jan 5, 2026 at 3:04 PM Help &lt;<a href="mailto:h@s.example">'
        "h@s.example</a>&gt; wrote:<br></div><blockquote><p>Did you restart it?</p></blockquote></div>",
        '<hr><div id="divRplyFwdMsg"><b>From:</b> Help &lt;h@s.example&gt;<br><b>Sent:</b> Monday<br>'
        "<b>To:</b> Jane<br><b>Subject:</b> Order 17<br></div><p>Did you restart it?</p>",
    ],
)
def test_quotes_in_html_go(quote: str) -> None:
    assert (
        text_of_message(mail(None, "Re: Order 17", f"<div>Still broken.</div><br>{quote}"))
        == "Subject: Re: Order 17\n\nStill broken."
    )


def test_attachments_are_left_out() -> None:
    message = mail()
    message.add_attachment(b"%PDF-1.4 junk", "application", "pdf", filename="invoice.pdf")
    message.add_attachment("not for the model", filename="notes.txt")
    assert text_of_message(message) == "Subject: Order 17\n\nThe lamp is broken."


def test_text_in_several_parts_is_joined() -> None:
    parts = "".join(f"--b\nContent-Type: text/plain\n\n{text}\n" for text in ("above", "below"))
    text = f"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n"
    assert text_of_message(text.encode()) == "Subject: x\n\nabove\n\nbelow"


def multipart(kind: str, *parts: str) -> str:
    """A part of some kind, around parts with their own headers."""
    boundary = f"{kind}-{len(''.join(parts))}"
    inner = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary={boundary}\n\n{inner}--{boundary}--\n"


PLAIN = "Content-Type: text/plain\n\nplain"
BLANK = "Content-Type: text/plain\n\n \n"
RICH = "Content-Type: text/html\n\n<p>rich</p>"
NAMED = 'Content-Type: text/plain; name="msg.txt"\n\nnamed'
NOTES = "Content-Type: text/plain; name=notes.txt\nContent-Disposition: attachment\n\nnotes"
FOOTER = "Content-Type: text/plain\n\nScanned by MailGuard"
PICTURE = "Content-Type: image/png\nContent-ID: <a>\n\nxyz"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (multipart("mixed", multipart("alternative", RICH), FOOTER), "rich\n\nScanned by MailGuard"),
        (multipart("mixed", RICH, FOOTER), "rich\n\nScanned by MailGuard"),
        (multipart("mixed", multipart("alternative", PLAIN, RICH), FOOTER), "plain\n\nScanned by MailGuard"),
        (multipart("mixed", PLAIN, PICTURE, RICH), "plain\n\nrich"),
        (multipart("alternative", multipart("related", RICH, PICTURE), PLAIN), "plain"),
        (multipart("alternative", BLANK, multipart("mixed", RICH, NOTES, FOOTER)), "rich\n\nScanned by MailGuard"),
    ],
)
def test_a_text_hides_another_only_where_they_are_alternatives(part: str, text: str) -> None:
    assert text_of_message(f"Subject: x\n{part}".encode()) == f"Subject: x\n\n{text}"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (NAMED, "named"),
        (multipart("mixed", NAMED, FOOTER), "named\n\nScanned by MailGuard"),
        (multipart("mixed", BLANK, NAMED), "named"),
        (multipart("mixed", PLAIN, NAMED), "plain"),
        (multipart("mixed", multipart("alternative", PLAIN, RICH), NAMED), "plain"),
        (multipart("mixed", NOTES, NAMED), "named"),
    ],
)
def test_a_text_with_a_name_is_the_body_if_no_other_stands_above_it(part: str, text: str) -> None:
    assert text_of_message(f"Subject: x\n{part}".encode()) == f"Subject: x\n\n{text}"


@pytest.mark.parametrize(
    "headers",
    [
        'Content-Type: text/html\nContent-Disposition: inline; filename="report.html"',
        "Content-Type: text/html\nContent-Disposition: inline; filename*=utf-8''report%C3%A9.html",
        "Content-Type: text/html\nContent-Disposition: inline; filename*=a\0b''report.html",
        "Content-Type: text/html; name*=a\0b''report.html",
        'Content-Type: text/html; name="report.html"\nContent-Disposition: inline',
    ],
)
def test_a_text_below_with_a_name_is_an_attachment(headers: str) -> None:
    text = f"Subject: x\n{multipart('mixed', PLAIN, headers + chr(10) * 2 + '<p>REPORT</p>')}"
    assert text_of_message(text.encode()) == "Subject: x\n\nplain"


def test_an_inline_attachment_is_left_out() -> None:
    message = mail()
    message.add_attachment("<p>REPORT</p>", subtype="html", disposition="inline", filename="report.html")
    assert text_of_message(message) == "Subject: Order 17\n\nThe lamp is broken."


def test_a_mail_that_is_forwarded_as_an_attachment() -> None:
    message = EmailMessage()
    message["Subject"] = "Fwd: Order 17"
    message.add_attachment(mail())
    assert text_of_message(message) == "Subject: Fwd: Order 17\n\nThe lamp is broken."


def test_a_reply_loses_its_quotes() -> None:
    body = "Still broken.\n\nOn Mon, Jan 5, 2026 at 3:04 PM Help <h@s.example> wrote:\n\n> Restart it.\n"
    assert text_of_message(mail(body, "Re: Order 17")) == "Subject: Re: Order 17\n\nStill broken."


def test_a_subject_alone_and_a_text_alone() -> None:
    assert text_of_message(b"Subject: please call me\n\n") == "Subject: please call me"
    assert text_of_message(b"From: a@b.example\n\nplease call me\n") == "please call me"


@pytest.mark.parametrize("content", [b"From: a@b.example\n\n", b"Subject:\n\n \n", mail(None, "").as_bytes()])
def test_an_empty_mail_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="neither a subject nor a text"):
        text_of_message(content)


def test_deeply_nested_parts_are_refused_in_one_paragraph() -> None:
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(3000))
    with pytest.raises(UserError, match="nested too deeply"):
        text_of_message(b"Subject: x\n" + nested)


def test_a_mail_of_too_many_parts_is_refused_and_not_cut() -> None:
    with pytest.raises(UserError, match="more than 200 parts"):
        text_of_message(f"Subject: x\n{multipart('mixed', *[PLAIN] * 300)}".encode())


@pytest.mark.slow
def test_damaged_mails_never_end_in_a_traceback() -> None:
    message = mail("Größe 5\n", "Größe", "<p>Größe <b>5</b></p>")
    message.add_attachment(mail("inner"))
    content, draw = message.as_bytes(), random.Random(0)
    snippets = [b'"', b"=?", b"?=", b"\\", b"*=", b"''", b"<", b"(", b"\r", b"\0", b";", b"%", b"\xff", b"charset=\0"]
    texts = 0
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 6)):
            place, kind = draw.randrange(len(damaged)), draw.random()
            if kind < 0.4:
                damaged[place] = draw.randrange(256)
            elif kind < 0.7:
                del damaged[place : place + draw.randint(1, 20)]
            else:
                damaged[place:place] = draw.choice(snippets)
        try:
            texts += "5" in text_of_message(bytes(damaged))
        except UserError:
            continue
    assert texts > 900


def test_the_old_policy_is_needed() -> None:
    """Python's default policy raises on this header; the day it doesn't, `text_of_mail` can use it."""
    content = b"Subject: x\nContent-Type: text/plain; charset=no-such\n\nbody"
    with pytest.raises(LookupError):
        email.message_from_bytes(content, policy=email.policy.default).get_content()
    assert text_of_message(content) == "Subject: x\n\nbody"
