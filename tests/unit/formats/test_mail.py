"""Messages: who and what, without what their HTML hides."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from pipeline.errors import Unacceptable
from stages.formats import text
from stages.formats.kinds import EML
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
