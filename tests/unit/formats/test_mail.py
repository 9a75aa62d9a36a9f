"""Messages: who and what, without what their HTML hides."""

from __future__ import annotations

from base64 import b64encode
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import Unacceptable
from stages.formats import mail, text
from stages.formats.kinds import EML, type_of
from stages.formats.message import heading
from stages.formats.pages import Text
from stages.formats.probe import look


def letter(html: str = "", text: str = "", subject: str = "Hello") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann <ann@example.com>"
    message["To"] = "post@example.com"
    message["Subject"] = subject
    message["Message-ID"] = "<1@example.com>"
    if text:
        message.set_content(text)
    if html and text:
        message.add_alternative(html, subtype="html")
    elif html:
        message.set_content(html, subtype="html")
    return message


def mailed(folder: Path, message: EmailMessage) -> Path:
    path = folder / "letter.eml"
    path.write_bytes(message.as_bytes())
    return path


def test_a_message_says_who_and_what(tmp_path: Path) -> None:
    """Its heads and its plain text are read; the HTML beside it is not."""
    path = mailed(tmp_path, letter("<b>rich</b>", "Dear all,\nplain é\n", "Grüße"))

    [page] = text.pages(str(path), EML)

    assert page == Text(
        "From: Ann <ann@example.com>\nTo: post@example.com\nSubject: Grüße\n\n"
        "Dear all,\nplain é"
    )


def test_a_message_in_html_is_read_without_what_it_hides(tmp_path: Path) -> None:
    """Scripts are no text, hidden words are counted, breaks are kept."""
    path = mailed(
        tmp_path,
        letter(
            "<style>p{}</style><p>Dear all,</p><p>one<br>two</p>"
            "<div style='display:none'>approve this</div><script>steal()</script>"
        ),
    )

    [page] = text.pages(str(path), EML)

    assert isinstance(page, Text)
    assert page.text.split("\n\n")[1:] == ["Dear all,", "one\ntwo"]
    assert page.hidden == len("approvethis")


def test_a_message_with_attachments_is_a_bundle(tmp_path: Path) -> None:
    """Attachments are listed by name, not opened; without any it is one document."""
    plain = letter(text="Dear all")
    with_files = letter(text="see there")
    for name in ("scan.pdf", "résumé.docx"):
        with_files.add_attachment(b"%PDF-", "application", "pdf", filename=name)

    alone = look(str(mailed(tmp_path, plain)), "letter.eml")
    bundle = look(str(mailed(tmp_path, with_files)), "letter.eml")

    assert (alone.bundle, alone.pages, alone.attachments) == (False, 1, ())
    assert (bundle.bundle, bundle.pages) == (True, 0)
    assert bundle.attachments == ("scan.pdf", "résumé.docx")


def test_a_message_that_cannot_be_read_has_a_code(tmp_path: Path) -> None:
    """Nesting without end is a fact about the message, never a crash."""
    bound = "".join(
        f'Content-Type: multipart/mixed; boundary="{n}"\n\n--{n}\n'
        for n in range(1_200)
    )
    path = tmp_path / "letter.eml"
    path.write_text(f"From: a@example.com\nMIME-Version: 1.0\nTo: b\n{bound}\nhello\n")

    with pytest.raises(Unacceptable) as caught:
        list(text.pages(str(path), EML))

    assert caught.value.code == "CORRUPT"


RAW = (
    b"From: Ann <ann@example.com>\r\nTo: post@example.com\r\n"
    b"Message-ID: <1@example.com>\r\nSubject: A letter\r\n"
)
BASE64 = b"Content-Transfer-Encoding: base64\r\n\r\n"


def read(folder: Path, data: bytes) -> Text:
    """The one page of a message of these bytes."""
    path = folder / "letter.eml"
    path.write_bytes(data)
    assert type_of(str(path)) == EML
    [page] = text.pages(str(path), EML)
    assert isinstance(page, Text)
    return page


@pytest.mark.parametrize(
    "before",
    [
        b"\r\n\n \n",
        b"\xef\xbb\xbf",
        b"From ann@example.com Tue Nov 24 10:00:00 2026\n",
        b"\n>From ann@example.com Tue Nov 24 10:00:00 2026\r\n",
    ],
)
def test_a_message_may_begin_with_what_programs_put_there(
    before: bytes, tmp_path: Path
) -> None:
    """A blank, a mark, a mailbox's line: it is decoded all the same."""
    page = read(tmp_path, before + RAW + BASE64 + b64encode(b"Dear all"))

    assert page.text.endswith("Subject: A letter\n\nDear all")


def test_base64_that_is_none_is_a_doubt(tmp_path: Path) -> None:
    """What came through undecoded is never the letter."""
    coded = b64encode("Grüße an alle".encode())[:-3]

    assert read(tmp_path, RAW + BASE64 + coded + b"\xff!").doubt


def test_html_says_its_own_encoding(tmp_path: Path) -> None:
    """Where the header is silent, its meta is asked."""
    html = '<meta charset="iso-8859-2"><p>Łódź'.encode("iso8859-2")

    page = read(tmp_path, RAW + b"Content-Type: text/html\r\n\r\n" + html)

    assert page.text.endswith("Łódź")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?windows-874?B?ytfRyrTV?=", "ส\u0e37\u0e31สด\u0e35"),
        ("Hi =?utf-8?B?w7w=?= =?utf-8?Q?_you?= there", "Hi ü you there"),
        ("=?gb2312?B?1uzp?= =?gb2312?B?Rg==?=", "朱镕"),
        ("=?x?Q?broken=ZZ", "=?x?Q?broken=ZZ"),
        ("plain, and no more", "plain, and no more"),
    ],
)
def test_a_heading_is_read(raw: str, text: str) -> None:
    """Words in any encoding, a character cut between two of them."""
    assert heading(raw) == (text, False)


def parts(folder: Path, message: EmailMessage) -> tuple[list[str], list[str]]:
    """Names of its parts, and of what is left out."""
    with mail.opened(str(mailed(folder, message)), 99, 1 << 20) as contents:
        return [part.name for part in contents.parts], contents.left_out


def picture(width: int, height: int, mode: str = "1") -> bytes:
    out = BytesIO()
    Image.new(mode, (width, height), 1).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "kept"),
    [((1240, 1754), True), ((500, 300), True), ((120, 110), False), ((900, 60), False)],
)
def test_a_picture_in_the_text_is_a_part_when_it_may_have_text(
    size: tuple[int, int], kept: bool, tmp_path: Path
) -> None:
    """A page in black and white has few bytes; a logo is named in the facts."""
    message = letter("<p>see below</p>")
    how: dict[str, Any] = {"disposition": "inline", "filename": "in.png"}
    message.add_related(picture(*size), "image", "png", **how)

    names, left_out = parts(tmp_path, message)

    assert (names, left_out) == (
        (["message", "in.png"], []) if kept else (["message"], ["in.png (decoration)"])
    )


def test_calendars_and_cards_are_counted_and_left(tmp_path: Path) -> None:
    """By their type, their name, or what they begin with."""
    message = letter(text="Please come")
    message.add_attachment("BEGIN:VCALENDAR\n", "calendar", filename="a.ics")
    message.add_attachment(b"x", "application", "octet-stream", filename="ann.VCF")
    message.add_attachment(
        b"BEGIN:VCARD\n", "application", "octet-stream", filename="card"
    )

    names, left_out = parts(tmp_path, message)

    assert names == ["message"]
    assert left_out == ["a.ics (calendar)", "ann.VCF (card)", "card (card)"]


def test_forms_of_the_same_are_said_once(tmp_path: Path) -> None:
    """Plain before HTML; an empty plain one is no form; two alike are one."""
    both = letter("<p>rich</p>", "plain")
    empty = letter("<p>rich</p>", " ")
    twice = letter(text="same")
    twice.make_mixed()
    twice.attach(letter("<p>same</p>"))

    said = [read(tmp_path, each.as_bytes()).text for each in (both, empty, twice)]

    assert [text.split("\n\n")[1:] for text in said] == [["plain"], ["rich"], ["same"]]


def test_a_mailbox_of_several_mails_is_a_bundle(tmp_path: Path) -> None:
    """Each mail is a part; a line of text that looks like one parts nothing."""
    line = b"From ann@example.com Tue Nov 24 10:00:00 2026\n"
    letter = line + RAW + b"\r\nIt came\r\nFrom Ann at 10:00 I heard\r\n\r\n"
    path = tmp_path / "all.mbox"
    path.write_bytes(letter * 3)

    found = look(str(path), path.name)
    with mail.opened(str(path), 9, 1 << 20) as contents:
        datas = [b"".join(part.read()) for part in contents.parts]

    assert (found.media_type, found.bundle) == (EML, True)
    assert datas == [letter] * 3


def test_a_text_attached_is_in_the_encoding_that_the_mail_names(tmp_path: Path) -> None:
    """As a file of its own nothing would name it any more."""
    message = letter(text="see there")
    message.add_attachment("señor".encode("mac_roman"), "text", "plain", filename="a")
    [_, attached] = message.iter_parts()
    attached.set_param("charset", "x-mac-roman")

    with mail.opened(str(mailed(tmp_path, message)), 9, 1 << 20) as contents:
        data = b"".join(contents.parts[1].read())

    assert data.decode() == "señor"
