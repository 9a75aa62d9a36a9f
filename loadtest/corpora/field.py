"""
Documents that went wrong in the field, made anew: one or more of every kind.

Each says how it must end.  None is copied from anywhere.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from loadtest.corpora import pdf_writer
from loadtest.corpora.slips import saved, written
from loadtest.hostile.bundles import docx, paragraph

ENCODING, UNDRAWN = "ENCODING_UNKNOWN", "LAYER_UNDRAWN"


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A file and how it must end.

    Attributes:
        end: Refused: at the door or as a part, with `code`.
        code: Of a refusal; of a held page.
        says: What must be in the text of the document and its parts together.
        parts: How many items a bundle becomes; 0 for what is none.
        left_out: What must be named in the facts as left out.
    """

    name: str
    data: bytes
    end: Literal["done", "held", "refused"] = "done"
    code: str = ""
    says: tuple[str, ...] = ()
    parts: int = 0
    pages: int = 0
    left_out: tuple[str, ...] = ()


def kinds() -> Iterator[Kind]:
    """All of this module."""
    yield from charsets()
    yield from texts()
    yield from mails()
    yield from portable()
    yield from pictures()
    yield from words()


# -- text -----------------------------------------------------------------------------

# What a mail says its encoding is, what it is in, and its text.
LABELS = (
    ("cp-850", "cp850", "Größe und Länge prüfen"),
    ("windows-874", "cp874", "ขอบคุณมาก"),
    ("gb2312", "gb18030", "朱镕基先生"),
    ("x-mac-roman", "mac_roman", "Grüße über die Brücke"),
    ("x-sjis", "cp932", "①番の手紙"),
    ("ks_c_5601-1987", "cp949", "안녕하세요 똠"),
    ("iso-8859-1", "cp1252", "“quoted” – dashed"),
    ("windows-932", "cp932", "髙橋"),
    ("unicode-1-1-utf-8", "utf-8", "Žluťoučký kůň"),
)


def charsets() -> Iterator[Kind]:
    """Mail in encodings under any name, and bytes that are not as they are named."""
    for label, codec, text in LABELS:
        data = mail(text.encode(codec), f"text/plain; charset={label}")
        yield Kind(f"charset-{label}.eml", data, says=(text,))
    lie = mail("Grüße".encode("cp1252"), "text/plain; charset=utf-8")
    yield Kind("charset-lie.eml", lie, "held", ENCODING)
    raw = mail(b"Hello", "text/plain; charset=iso-8859-2", "Łódź".encode("iso8859-2"))
    yield Kind("charset-raw-subject.eml", raw, says=("Subject: Łódź",))
    word = base64.b64encode("Привет, друзья".encode("koi8-r")).decode()
    coded = mail(b"Hello", "text/plain", f"=?cskoi8r?B?{word}?=".encode())
    yield Kind("charset-coded-subject.eml", coded, says=("Привет, друзья",))


def texts() -> Iterator[Kind]:
    """Plain text that does not say what it is in, or is none."""
    russian = "Уважаемые друзья, благодарим вас за письмо."
    yield Kind("text-koi8.txt", russian.encode("koi8-r"), says=(russian,))
    chinese = "请把书寄到新的地址。\r\n谢谢。 A 12"
    yield Kind("text-utf16-be.txt", chinese.encode("utf-16-be"), says=("新的地址",))
    wide = "Written by a program for wide characters."
    yield Kind("text-utf32.txt", wide.encode("utf-32-le"), says=(wide,))
    nul = b"Harbour\0 street 5, the old printer wrote, and wrote on for long.\r\n"
    yield Kind("text-nul.txt", nul * 2, says=("Harbour  street",))
    damaged = ("Žluťoučký kůň pěl ódy. " * 9).encode() + b"\xff and so on"
    yield Kind("text-damaged.txt", damaged, "held", ENCODING)
    short = "señor".encode("mac_roman")
    yield Kind("text-too-short.txt", short, "held", ENCODING)
    frames = b"\xff\xfe" + struct.pack("<IHH", 3, 0xAF12, 1) + bytes(range(256)) * 4
    yield Kind("text-animation.fli", frames, "refused", "UNSUPPORTED_TYPE")
    card = b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ann\r\nEND:VCARD\r\n"
    yield Kind("text-card.vcf", card, "refused", "UNSUPPORTED_TYPE")


# -- mail -----------------------------------------------------------------------------


def mail(body: bytes, kind: str, subject: bytes = b"A letter") -> bytes:
    """A message with raw bytes, as programs send them."""
    head = (
        b"From: Ann <ann@example.org>\r\nTo: desk@example.org\r\n"
        b"Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nSubject: " + subject
    )
    kind_line = f"\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return head + kind_line.encode() + body + b"\r\n"


def mails() -> Iterator[Kind]:
    """Mail as it is saved, forwarded, cut at its pictures, and packed."""
    plain = mail(base64.b64encode(b"The crane is ready."), "text/plain")
    coded = plain.replace(b"8bit", b"base64")
    line = b"From ann@example.org Tue Nov 24 10:00:00 2026\n"
    for word, before in (("blank-first", b"\r\n\n"), ("from-line", line)):
        says = ("The crane is ready.",)
        yield Kind(f"mail-{word}.eml", before + coded, says=says)
    inner = base64.b64encode(mail(b"The ship comes on Friday.", "text/plain"))
    yield Kind(
        "mail-forward-coded.eml",
        mixed(
            (b"text/plain", b"See below."),
            (b"message/rfc822\nContent-Transfer-Encoding: base64", inner),
        ),
        says=("See below.", "The ship comes on Friday."),
        parts=2,
    )
    scan = base64.encodebytes(saved(written("SCANNED ON FLOOR SIX", "1"), "png"))
    inline = (
        b"image/png\nContent-Transfer-Encoding: base64\nContent-Disposition: inline"
    )
    halves = (b"text/html", b"<p>First half.</p>"), (b"text/html", b"<p>The rest.</p>")
    yield Kind(
        "mail-halves.eml",
        mixed(halves[0], (inline, scan), halves[1]),
        says=("First half.", "The rest.", "SCANNED ON FLOOR SIX"),
        parts=2,
    )
    logo = base64.encodebytes(saved(Image.new("L", (120, 110), 90), "png"))
    yield Kind(
        "mail-logo.eml",
        mixed((b"text/plain", b"Only a logo below."), (inline, logo)),
        says=("Only a logo below.",),
        left_out=("decoration",),
    )
    yield Kind(
        "mail-contacts.eml",
        mixed(
            (b"text/plain", b"Please come."),
            (b"text/calendar", b"BEGIN:VCALENDAR\nEND:VCALENDAR"),
            (b"text/x-vcard", b"BEGIN:VCARD\nFN:Ann\nEND:VCARD"),
        ),
        says=("Please come.",),
        left_out=("calendar", "card"),
    )
    packed = base64.encodebytes(winmail(("notes.txt", b"Forty crowns are due.")))
    tnef = b"application/ms-tnef\nContent-Transfer-Encoding: base64"
    yield Kind(
        "mail-winmail.eml",
        mixed((b"text/plain", b"See the file."), (tnef, packed)),
        says=("See the file.", "Forty crowns are due."),
        parts=2,
    )
    broken = base64.encodebytes(winmail()[:40] + bytes(range(99)))
    yield Kind(
        "mail-winmail-broken.eml",
        mixed((b"text/plain", b"See the other file."), (tnef, broken)),
        end="refused",
        code="UNSUPPORTED_TYPE",
        says=("See the other file.",),
        parts=1,
    )


def mixed(*parts: tuple[bytes, bytes]) -> bytes:
    """A message of several parts: type, with more header lines, and bytes."""
    body = b"".join(
        b"--b\nContent-Type: " + kind + b"\n\n" + data + b"\n" for kind, data in parts
    )
    return mail(body + b"--b--", "multipart/mixed; boundary=b")


def winmail(*files: tuple[str, bytes]) -> bytes:
    """A TNEF stream with these files."""
    out = b"\x78\x9f\x3e\x22" + struct.pack("<H", 1)

    def attribute(level: int, name: int, data: bytes) -> bytes:
        head = struct.pack("<BHHI", level, name, 6, len(data))
        return head + data + struct.pack("<H", sum(data) & 0xFFFF)

    out += attribute(1, 0x9006, struct.pack("<I", 0x10000))
    out += attribute(1, 0x9007, struct.pack("<II", 1252, 0))
    for name, data in files:
        out += attribute(2, 0x9002, bytes(14))
        out += attribute(2, 0x8010, name.encode("cp1252") + b"\0")
        out += attribute(2, 0x800F, data)
    return out


# -- PDF ------------------------------------------------------------------------------


def portable() -> Iterator[Kind]:
    """PDFs that are a wrapper, a notice, nothing, or measured in their own units."""
    import pikepdf

    with pikepdf.open(BytesIO(pdf_writer.plain(61))) as pdf:
        pdf.Root.Collection = pikepdf.Dictionary(Type=pikepdf.Name.Collection)
        for number in (62, 63):
            pdf.attachments[f"{number}.pdf"] = pikepdf.AttachedFileSpec(
                pdf,
                pdf_writer.plain(number),
                filename=f"{number}.pdf",
                description="",
                mime_type="application/pdf",
                creation_date="",
                mod_date="",
            )
        yield Kind(
            "pdf-portfolio.pdf",
            written_pdf(pdf),
            says=("WARM SOCKS", "TWO HENS"),
            parts=2,
            left_out=("cover sheet",),
        )
    form = "/AcroForm << /Fields [] /XFA [(template) 6 0 R] >>"
    notice = b"BT /F1 18 Tf 20 50 Td (Please wait...) Tj ET"
    xfa = pdf_writer.page(notice, catalogue=form, more=[pdf_writer.stream(b"<xdp/>")])
    yield Kind("pdf-xfa.pdf", xfa, "refused", "PDF_XFA")
    none = pdf_writer.page(pages="/Kids [] /Count 0")
    yield Kind("pdf-no-pages.pdf", none, "refused", "NO_PAGES")
    with pikepdf.open(BytesIO(pdf_writer.plain(64))) as pdf:
        [page] = pdf.pages
        page.obj.UserUnit = 10
        page.mediabox = pikepdf.Array([float(side) / 10 for side in page.mediabox])
        page.contents_add(b"0.1 0 0 0.1 0 0 cm", prepend=True)
        yield Kind(
            "pdf-unit.pdf", written_pdf(pdf), says=("PLEASE MAY I HAVE A BLUE BELL",)
        )
    unseen = b"BT 3 Tr /F1 18 Tf 20 50 Td (Nobody sees these words) Tj ET"
    yield Kind("pdf-undrawn.pdf", pdf_writer.page(unseen), "held", UNDRAWN)


def written_pdf(pdf: Any) -> bytes:
    """A PDF as bytes."""
    out = BytesIO()
    pdf.save(out, static_id=True)
    return out.getvalue()


# -- pictures -------------------------------------------------------------------------

Colour = int | tuple[int, ...]


def sheet(
    mode: str, paper: Colour, ink: Colour, text: str, top: int = 90
) -> Image.Image:
    """A line of large type in colours."""
    image = Image.new(mode, (900, 360 if top else 1600), paper)
    font = ImageFont.load_default(36)
    ImageDraw.Draw(image).text((300, top), text, fill=ink, font=font)
    return image


def pictures() -> Iterator[Kind]:
    """Ink that gray does not show, at the border, and pages that are copies."""
    red, white = (255, 0, 0), (255, 255, 255)
    nothing = (0, 0, 0, 0)
    made: tuple[tuple[str, str, tuple[str, Colour, Colour]], ...] = (
        ("green-on-red", "Green upon red", ("RGB", red, (0, 130, 0))),
        ("white-on-yellow", "White upon yellow", ("RGB", (255, 255, 0), white)),
        ("on-nothing", "Upon nothing at all", ("RGBA", nothing, (*white, 255))),
        ("pale", "As pale as can be", ("L", 255, 238)),
    )
    for name, text, (mode, paper, ink) in made:
        data = saved(sheet(mode, paper, ink, text), "png")
        yield Kind(f"ink-{name}.png", data, says=(text,))
    text = "Right at the top edge"
    data = saved(sheet("L", 255, 0, text, top=0), "png")
    yield Kind("ink-at-the-top.png", data, says=(text,))
    page = written("One page and no more")
    copies = [page.resize((310, 80)), page.resize((155, 40))]
    frames = [page, *copies]
    yield Kind("tiff-copies.tif", pyramid(frames), says=("One page and",), pages=1)


def pyramid(frames: list[Image.Image]) -> bytes:
    """A TIFF whose later frames say that they are smaller copies of the first."""
    from PIL import TiffImagePlugin

    out = BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(out, True) as file:
        for number, frame in enumerate(frames):
            frame.save(file, "TIFF", tiffinfo={254: int(number > 0)})
            file.newFrame()
    return out.getvalue()


# -- Word -----------------------------------------------------------------------------


def words() -> Iterator[Kind]:
    """What a Word document shows without writing it."""
    m = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    formula = (
        f"<w:p><m:oMath {m}><m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num>"
        "<m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath></w:p>"
    )
    tick = (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox>'
        "<w:checked/></w:checkBox></w:ffData></w:fldChar></w:r></w:p>"
    )
    sign = '<w:p><w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r></w:p>'
    odd = '<w:p><w:r><w:sym w:font="Webdings" w:char="F021"/></w:r></w:p>'
    body = paragraph("A form with marks") + formula + tick + sign + odd
    yield Kind(
        "word-marks.docx",
        docx(body),
        says=("A form with marks", "(a+b)/2", "☑\n☑"),
        left_out=("1 x symbol",),
    )
