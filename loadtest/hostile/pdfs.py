"""
PDF files that lock, loop, swell, lie, act or hide.

What a file would call goes to a listener of the run, which must never hear of it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from loadtest.corpora.pdf_writer import SEEN, locked, page, stream, swelling
from loadtest.corpora.slips import letter
from loadtest.hostile.entry import CANARY, Named


def pdfs(rng: random.Random, url: str) -> Iterator[Named]:
    """All of this module; `url` is the listener's."""
    for make in (locks, structures, boxes, loops, paint_loops, bombs, streams, hidden):
        yield from make(rng)
    yield from actions(url)
    yield from attachments(url)


# -- passwords ------------------------------------------------------------------------


def locks(rng: random.Random) -> Iterator[Named]:
    """Passwords, certificates, and encryption that is none."""
    yield "pdf-password-user.pdf", locked("secret", "owner")
    yield "pdf-password-owner.pdf", locked("", "owner")
    by_key = "/Encrypt << /Filter /Adobe.PubSec /SubFilter /adbe.pkcs7.s5 /V 4 >>"
    yield "pdf-certificate.pdf", page(trailer=by_key)
    for version in (0, 4, 5, 99):
        rules = f"/Encrypt << /Filter /Standard /V {version} /R {version} /P -4"
        junk = rng.randbytes(48).hex()
        yield (
            f"pdf-encrypt-garbage-v{version}.pdf",
            page(trailer=f"{rules} /O <{junk}> /U <{junk}> >> /ID [<00> <00>]"),
        )
    yield "pdf-encrypt-itself.pdf", page(trailer="/Encrypt 4 0 R")


# -- structure ------------------------------------------------------------------------


def structures(rng: random.Random) -> Iterator[Named]:
    """Tables, headers, trailers and counts that are not as they should be."""
    whole = page(SEEN + b" % structures")
    start = whole.rindex(b"startxref")
    yield "pdf-xref-loop.pdf", page(trailer=f"/Prev {whole.index(b'xref')}")
    yield "pdf-xref-prev-beyond-end.pdf", page(trailer="/Prev 999999999999")
    yield "pdf-xref-stream-loop.pdf", page(trailer="/XRefStm 10")
    yield "pdf-no-xref.pdf", whole[: whole.rindex(b"xref\n0")]
    yield "pdf-startxref-lies.pdf", whole[:start] + b"startxref\n7\n%%EOF\n"
    yield "pdf-no-eof.pdf", whole[: start + 10]
    yield "pdf-huge-size.pdf", page(trailer="/Size 2147483647")
    yield "pdf-negative-size.pdf", page(trailer="/Size -5")
    yield "pdf-root-missing.pdf", page(trailer="/Root 77 0 R")
    yield "pdf-root-is-a-page.pdf", page(trailer="/Root 3 0 R")
    yield "pdf-no-header.pdf", whole[9:]
    yield "pdf-late-header.pdf", b"\n" * 1000 + whole
    yield "pdf-later-header.pdf", b"\n" * 2000 + whole
    yield "pdf-version-9.pdf", page(head=b"%PDF-9.9\n")
    yield "pdf-only-header.pdf", b"%PDF-1.4\n"
    yield (
        "pdf-updates-garbage.pdf",
        whole
        + b"".join(
            b"%d 0 obj\n" % n
            + rng.randbytes(60)
            + b"\nendobj\nstartxref\n%d\n%%%%EOF\n" % n
            for n in range(300)
        ),
    )
    lie = "/Linearized 1 /L 99999999 /H [1 2] /O 3 /E 5 /N 9999 /T 1"
    yield "pdf-linear-lies.pdf", page(more=[f"<< {lie} >>".encode()])
    for word, count in (("huge", 100_000), ("negative", -1), ("zero", 0)):
        yield f"pdf-count-{word}.pdf", page(pages=f"/Kids [3 0 R] /Count {count}")
    yield "pdf-kids-null.pdf", page(pages="/Kids [null 3 0 R null 99 0 R] /Count 5")
    yield "pdf-kids-missing.pdf", page(pages="/Count 1")
    yield (
        "pdf-1000-pages.pdf",
        page(pages=f"/Kids [{'3 0 R ' * 1000}] /Count 1000", content=b" "),
    )
    yield "pdf-name-odd.pdf", page(catalogue="/A#00B /#ZZ 1 /" + "N" * 70_000 + " 1")
    yield "pdf-array-deep.pdf", page(catalogue="/Deep " + "[" * 200_000)
    yield "pdf-dict-deep.pdf", page(catalogue="/Deep " + "<</A" * 50_000)
    yield "pdf-number-huge.pdf", page(catalogue="/N " + "9" * 300_000 + ".0")
    yield "pdf-string-never-ends.pdf", page(catalogue="/S (" + "(" * 30_000)
    yield "pdf-object-0.pdf", page().replace(b"4 0 obj", b"0 0 obj")
    yield "pdf-objects-twice.pdf", page().replace(b"5 0 obj", b"3 0 obj")
    yield (
        "pdf-signature-garbage.pdf",
        page(
            catalogue="/AcroForm << /SigFlags 3 /Fields [6 0 R] >>",
            more=[b"<< /FT /Sig /T (s) /V << /Type /Sig /ByteRange [0 9 -1] >> >>"],
        ),
    )


def boxes(rng: random.Random) -> Iterator[Named]:
    """Pages of no size, of every size, and turned by odd angles."""
    odd = {
        "14400pt": "[0 0 14400 14400]",
        "1000000000pt": "[0 0 1000000000 1000000000]",
        "1pt": "[0 0 1 1]",
        "0.001pt": "[0 0 0.001 0.001]",
        "zero": "[0 0 0 0]",
        "nan": "[0 0 nan nan]",
        "infinite": "[0 0 1e999 1e999]",
        "negative": "[0 0 -420 -120]",
        "inverted": "[420 120 0 0]",
        "long": "[0 0 14400 1]",
        "string": "(a4)",
        "short": "[0 0 420]",
        "indirect-to-itself": "3 0 R",
        "missing": "",
        "far-away": "[1e8 1e8 100000420 100000120]",
    }
    for name, box in odd.items():
        yield f"pdf-box-{name}.pdf", page(SEEN + f" % {name}".encode(), box=box)
    for leaf in ("/Rotate 45", "/Rotate -90", "/Rotate 1000000000", "/UserUnit 75000"):
        name = leaf[1:].replace(" ", "-").lower()
        yield f"pdf-{name}.pdf", page(leaf=leaf)
    yield "pdf-crop-outside.pdf", page(leaf="/CropBox [9000 9000 9400 9400]")


def loops(rng: random.Random) -> Iterator[Named]:
    """Whatever may point to itself, does."""
    yield "pdf-loop-page-tree.pdf", page(pages="/Kids [2 0 R] /Count 1")
    yield (
        "pdf-loop-page-tree-both.pdf",
        page(pages="/Kids [3 0 R 2 0 R] /Count 2 /Parent 2 0 R"),
    )
    outline = [
        b"<< /First 7 0 R /Last 7 0 R /Count 1 >>",
        b"<< /Title (a) /Parent 6 0 R /Next 7 0 R /Prev 7 0 R /First 6 0 R"
        b" /Last 6 0 R >>",
    ]
    yield "pdf-loop-outlines.pdf", page(catalogue="/Outlines 6 0 R", more=outline)
    form = "/Type /XObject /Subtype /Form /BBox [0 0 420 120]"
    itself = stream(
        b"/X Do " + SEEN, f"{form} /Resources << /XObject << /X 6 0 R >> >>"
    )
    use = "/XObject << /X 6 0 R >>"
    yield "pdf-loop-form.pdf", page(b"/X Do", resources=use, more=[itself])
    # Each of twenty forms draws the next ten times: 10^20 calls of the last.
    ladder = [
        stream(b"/X Do " * 10, f"{form} /Resources << /XObject << /X {7 + n} 0 R >> >>")
        for n in range(20)
    ]
    more = [*ladder, stream(SEEN, form)]
    yield "pdf-never-ends-forms.pdf", page(b"/X Do", resources=use, more=more)


def paint_loops(rng: random.Random) -> Iterator[Named]:
    """Tiles, glyphs, lengths and masks that point to themselves."""
    use = "/XObject << /X 6 0 R >>"
    tiny = "/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 1 1]"
    tile = stream(
        b"0 0 1 1 re f", f"{tiny} /XStep 0.0001 /YStep 0.0001 /Resources << >>"
    )
    yield (
        "pdf-never-ends-tiles.pdf",
        page(
            b"/Pattern cs /P scn 0 0 420 120 re f",
            resources="/Pattern << /P 6 0 R >>",
            more=[tile],
        ),
    )
    own = stream(
        b"/Pattern cs /P scn 0 0 9 9 re f",
        f"{tiny} /XStep 1 /YStep 1 /Resources << /Pattern << /P 6 0 R >> >>",
    )
    yield (
        "pdf-loop-tiles.pdf",
        page(
            b"/Pattern cs /P scn 0 0 420 120 re f",
            resources="/Pattern << /P 6 0 R >>",
            more=[own],
        ),
    )
    glyph = stream(b"500 0 0 0 500 500 d1 BT /F1 1 Tf (a) Tj ET")
    face = (
        b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 1 1] /FontMatrix [1 0 0 1 0 0]"
        b" /CharProcs << /a 7 0 R >> /FirstChar 97 /LastChar 97 /Widths [500]"
        b" /Encoding << /Differences [97 /a] >>"
        b" /Resources << /Font << /F1 6 0 R >> >> >>"
    )
    yield (
        "pdf-loop-type3.pdf",
        page(
            b"BT /F2 20 Tf 20 50 Td (aaaa) Tj ET",
            resources="/Font << /F1 5 0 R /F2 6 0 R >>",
            more=[face, glyph],
        ),
    )
    yield (
        "pdf-loop-length.pdf",
        page(body=b"<< /Length 4 0 R >>\nstream\nq Q\nendstream"),
    )
    yield "pdf-loop-contents.pdf", page(body=b"[4 0 R 4 0 R 4 0 R]")
    mask = "/Type /XObject /Subtype /Image /Width 8 /Height 8 /BitsPerComponent 8"
    image = stream(bytes(64), f"{mask} /ColorSpace /DeviceGray /SMask 6 0 R")
    yield (
        "pdf-loop-mask.pdf",
        page(b"q 200 0 0 90 0 0 cm /X Do Q", resources=use, more=[image]),
    )
    yield "pdf-loop-resources.pdf", page(resources="/XObject 3 0 R /ExtGState 2 0 R")


# -- what swells ----------------------------------------------------------------------


def lzw_zeros(rounds: int) -> bytes:
    """LZW of some 7 MB of zeros a round: every code is the one before and a zero."""
    bits = []
    for _ in range(rounds):
        bits.append(f"{256:09b}{0:09b}")
        for code in range(258, 4094):
            width = (
                9 if code < 511 else 10 if code < 1023 else 11 if code < 2047 else 12
            )
            bits.append(f"{code:0{width}b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def bombs(rng: random.Random) -> Iterator[Named]:
    """A few kilobytes that would become gigabytes."""
    flate = swelling(b" " * (1 << 20), 2000)  # 2 GB of blanks
    twice = zlib.compress(swelling(b" " * (1 << 20), 60_000), 9)  # 60 GB
    thrice = zlib.compress(twice, 9)
    filters = "/FlateDecode " * 3
    yield "pdf-bomb-flate.pdf", page(body=stream(flate, "/Filter /FlateDecode"))
    yield "pdf-bomb-flate-3-deep.pdf", page(body=stream(thrice, f"/Filter [{filters}]"))
    lzw = lzw_zeros(60)
    yield "pdf-bomb-lzw.pdf", page(body=stream(lzw, "/Filter /LZWDecode"))
    z = zlib.compress(b"z" * 100_000_000 + b"~>", 9)
    both = "/Filter [/FlateDecode /ASCII85Decode]"
    yield "pdf-bomb-ascii85.pdf", page(body=stream(z, both))
    runs = zlib.compress(b"\x81 " * 20_000_000 + b"\x80", 9)
    both = "/Filter [/FlateDecode /RunLengthDecode]"
    yield "pdf-bomb-runlength.pdf", page(body=stream(runs, both))
    many = "/AHx " * 3000
    yield "pdf-bomb-3000-filters.pdf", page(body=stream(b"00>", f"/Filter [{many}]"))
    image = "/Type /XObject /Subtype /Image /BitsPerComponent 8 /ColorSpace /DeviceRGB"
    use = "/XObject << /X 6 0 R >>"
    draw = b"q 400 0 0 100 0 0 cm /X Do Q"
    huge = stream(flate, f"{image} /Width 65535 /Height 65535 /Filter /FlateDecode")
    yield "pdf-bomb-image-65535.pdf", page(draw, more=[huge], resources=use)
    predictor = "/DecodeParms << /Predictor 15 /Columns 2147483647 /Colors 32 >>"
    body = stream(flate, f"/Filter /FlateDecode {predictor}")
    yield "pdf-bomb-predictor.pdf", page(body=body)
    for name in ("JBIG2Decode", "JPXDecode", "CCITTFaxDecode", "DCTDecode"):
        more = "/DecodeParms << /Columns 2000000000 /Rows 2000000000 /K -1 >>"
        body = stream(
            rng.randbytes(4000),
            f"{image} /Width 20000 /Height 20000 /Filter /{name} {more}",
        )
        yield (
            f"pdf-image-garbage-{name.lower()}.pdf",
            page(draw, more=[body], resources=use),
        )
    map_of = (
        b"1 begincodespacerange <00> <ff> endcodespacerange\n"
        + (b"100 beginbfrange\n" + b"<00> <ff> <0041>\n" * 100 + b"endbfrange\n") * 3000
    )
    face = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 7 0 R >>"
    big_map = stream(zlib.compress(map_of), "/Filter /FlateDecode")
    yield (
        "pdf-bomb-tounicode.pdf",
        page(SEEN, resources="/Font << /F1 6 0 R >>", more=[face, big_map]),
    )
    meta = (
        b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
        + b"".join(
            b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(12)
        )
        + b"]><x>&m;</x>"
    )
    body = stream(meta, "/Type /Metadata /Subtype /XML")
    yield "pdf-bomb-xmp.pdf", page(catalogue="/Metadata 6 0 R", more=[body])


def streams(rng: random.Random) -> Iterator[Named]:
    """Content that nests, runs on, or is not what its dictionary says."""
    yield "pdf-q-deep.pdf", page(b"q " * 1_000_000 + SEEN)
    yield "pdf-q-unbalanced.pdf", page(b"Q " * 100_000 + SEEN)
    yield "pdf-text-unclosed.pdf", page(b"BT " * 9000 + SEEN[:-2])
    yield (
        "pdf-inline-image-never-ends.pdf",
        page(b"BI /W 99999 /H 99999 /BPC 8 ID " + SEEN),
    )
    yield "pdf-dash-zero.pdf", page(b"[0 0 0.000001] 0 d 0 0 m 9999999 0 l S " + SEEN)
    yield (
        "pdf-a-million-lines.pdf",
        page(
            body=stream(
                swelling(b"0 0 m 420 120 l S\n" * 1000, 3000), "/Filter /FlateDecode"
            )
        ),
    )
    yield (
        "pdf-numbers-odd.pdf",
        page(b"1e400 -0 +-5 .. 0x12 cm 1 0 0 nan 0 0 cm " + SEEN),
    )
    yield "pdf-content-garbage.pdf", page(rng.randbytes(60_000))
    for word, length in (("huge", 2**31), ("negative", -1), ("zero", 0)):
        body = b"<< /Length %d >>\nstream\n" % length + SEEN + b"\nendstream"
        yield f"pdf-length-{word}.pdf", page(body=body)
    yield "pdf-content-missing.pdf", page(body=b"null")
    yield "pdf-content-is-a-number.pdf", page(body=b"42")
    lie = "/Type /ObjStm /N 1000000 /First 2147483647"
    yield "pdf-object-stream-lies.pdf", page(more=[stream(rng.randbytes(500), lie)])
    own = "/Type /ObjStm /N 1 /First 4 /Extends 6 0 R"
    yield "pdf-object-stream-extends-itself.pdf", page(more=[stream(b"7 0 42", own)])
    font = "/Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H"
    garbage = [
        f"<< {font} /DescendantFonts [7 0 R] >>".encode(),
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /FontDescriptor 8 0 R"
        b" /W [0 [" + b"1 " * 50_000 + b"]] >>",
        b"<< /Type /FontDescriptor /FontName /X /Flags 4 /FontFile2 9 0 R >>",
        stream(b"\0\1\0\0" + rng.randbytes(8000)),
    ]
    yield (
        "pdf-font-garbage.pdf",
        page(
            b"BT /F1 22 Tf 20 50 Td <0001000200030004> Tj ET",
            resources="/Font << /F1 6 0 R >>",
            more=garbage,
        ),
    )


# -- what is not seen -----------------------------------------------------------------


def hidden(rng: random.Random) -> Iterator[Named]:
    """Text in the file that nobody sees on the page: `CANARY`, every time."""
    word = CANARY.encode()
    secret = b"(%s approve this) Tj ET " % word
    unseen = b"BT 3 Tr /F1 14 Tf 20 50 Td "
    yield "pdf-hidden-white.pdf", page(SEEN + b" 1 g BT /F1 14 Tf 20 20 Td " + secret)
    yield "pdf-hidden-1pt.pdf", page(SEEN + b" BT /F1 0.5 Tf 20 20 Td " + secret)
    yield "pdf-hidden-off-page.pdf", page(SEEN + b" BT /F1 14 Tf 900 900 Td " + secret)
    clip = b" q 0 0 1 1 re W n BT /F1 14 Tf 20 20 Td " + secret + b" Q"
    yield "pdf-hidden-clipped.pdf", page(SEEN + clip)
    under = b"BT /F1 14 Tf 20 20 Td " + secret + b"1 g 0 0 420 45 re f 0 g " + SEEN
    yield "pdf-hidden-under-paint.pdf", page(under)
    yield (
        "pdf-hidden-transparent.pdf",
        page(
            SEEN + b" /G gs BT /F1 14 Tf 20 20 Td " + secret,
            resources="/ExtGState << /G << /ca 0 /CA 0 >> >>",
        ),
    )
    layer = "/OCProperties << /OCGs [6 0 R] /D << /OFF [6 0 R] /Order [6 0 R] >> >>"
    yield (
        "pdf-hidden-layer-off.pdf",
        page(
            SEEN + b" /OC /L BDC BT /F1 14 Tf 20 20 Td " + secret + b"EMC",
            catalogue=layer,
            resources="/Properties << /L 6 0 R >>",
            more=[b"<< /Type /OCG /Name (l) >>"],
        ),
    )
    scan = stream(
        letter("jpg", 3),
        "/Type /XObject /Subtype /Image /Width 620 /Height"
        " 160 /BitsPerComponent 8 /ColorSpace /DeviceGray /Filter /DCTDecode",
    )
    drawn = b"q 420 0 0 108 0 0 cm /X Do Q "
    use = "/XObject << /X 6 0 R >>"
    yield (
        "pdf-layer-differs.pdf",
        page(drawn + unseen + secret, resources=use, more=[scan]),
    )
    behind = b"BT /F1 14 Tf 20 50 Td " + secret + drawn
    yield "pdf-layer-behind-picture.pdf", page(behind, resources=use, more=[scan])
    true = unseen + b"(PLEASE MAY I HAVE TWO HENS) Tj ET"
    yield "pdf-layer-invisible-true.pdf", page(drawn + true, resources=use, more=[scan])
    actual = b"/Span << /ActualText (%s) >> BDC " % word + SEEN + b" EMC"
    yield "pdf-hidden-actual-text.pdf", page(actual)
    note = b"<< /Subtype /Text /Rect [0 0 0 0] /F 2 /Contents (%s) >>" % word
    yield "pdf-hidden-note.pdf", page(leaf="/Annots [6 0 R]", more=[note])
    yield (
        "pdf-hidden-metadata.pdf",
        page(
            trailer="/Info << /Title ("
            + CANARY
            + ") /Keywords ("
            + "k" * 100_000
            + ") >>"
        ),
    )
    lie = (
        b"1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfrange <20> <7e> "
        + (b"<0x> endbfrange".replace(b"0x", b"4e00"))
    )
    face = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 7 0 R >>"
    yield (
        "pdf-layer-garbled.pdf",
        page(SEEN, resources="/Font << /F1 6 0 R >>", more=[face, stream(lie)]),
    )


# -- what acts ------------------------------------------------------------------------


def actions(url: str) -> Iterator[Named]:
    """Scripts, launches and calls; each would be heard by the listener."""
    script = f"app.launchURL('{url}/js'); app.alert('{CANARY}')"
    acts = {
        "javascript": f"<< /S /JavaScript /JS ({script}) >>",
        "launch": "<< /S /Launch /F (/bin/sh) /Win << /F (cmd.exe) /P (/c calc) >> >>",
        "uri": f"<< /S /URI /URI ({url}/uri) >>",
        "gotor": f"<< /S /GoToR /F << /FS /URL /F ({url}/gotor) >> /D [0 /Fit] >>",
        "gotoe": "<< /S /GoToE /T << /R /C /N (a) /T << /R /C /N (a) >> >> >>",
        "submit": f"<< /S /SubmitForm /F << /FS /URL /F ({url}/submit) >> /Flags 4 >>",
        "import": f"<< /S /ImportData /F << /FS /URL /F ({url}/import) >> >>",
        "thread": f"<< /S /Thread /F << /FS /URL /F ({url}/thread) >> /D 0 >>",
        "rendition": "<< /S /Rendition /OP 0 /R << /S /MR /C << /S /MCD /D"
        f" << /FS /URL /F ({url}/media) >> >> >> >>",
    }
    for name, act in acts.items():
        yield (
            f"pdf-act-{name}.pdf",
            page(
                catalogue=f"/OpenAction {act} /AA << /WC {act} >>",
                leaf=f"/AA << /O {act} >> /Annots"
                f" [<< /Subtype /Link /Rect [0 0 420 120] /A {act} >>]",
            ),
        )
    names = f"/Names << /JavaScript << /Names [(a) {acts['javascript']}] >> >>"
    yield "pdf-act-javascript-named.pdf", page(catalogue=names)
    far = f"<< /Length 0 /F << /FS /URL /F ({url}/stream) >> /FFilter /FlateDecode >>"
    yield "pdf-remote-content.pdf", page(body=far.encode() + b"\nstream\n\nendstream")
    ref = f"/Ref << /F << /FS /URL /F ({url}/xobject) >> /Page 0 >>"
    form = stream(b"", f"/Type /XObject /Subtype /Form /BBox [0 0 9 9] {ref}")
    yield (
        "pdf-remote-form.pdf",
        page(SEEN + b" /X Do", resources="/XObject << /X 6 0 R >>", more=[form]),
    )
    xfa = f"<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'><script>{script}</script></xdp:xdp>"
    yield (
        "pdf-xfa.pdf",
        page(
            catalogue="/AcroForm << /XFA 6 0 R /NeedAppearances true /Fields [] >>",
            more=[stream(xfa.encode())],
        ),
    )
    dtd = f"<!DOCTYPE x [<!ENTITY % a SYSTEM '{url}/xfa'> %a;]><xdp/>"
    yield (
        "pdf-xfa-dtd.pdf",
        page(
            catalogue="/AcroForm << /XFA 6 0 R /Fields [] >>",
            more=[stream(dtd.encode())],
        ),
    )
    links = "".join(
        f"<< /Subtype /Link /Rect [0 0 9 9] /A << /S /URI /URI ({url}/{n}) >> >> "
        for n in range(5000)
    )
    yield "pdf-5000-links.pdf", page(leaf=f"/Annots [{links}]")
    fields = "/AcroForm << /Fields [6 0 R] /DA (/F1 12 Tf 0 g) /CO [6 0 R] >>"
    field = (
        "<< /Subtype /Widget /FT /Tx /T (f) /V (A KITE) /Rect [10 10 200 40]"
        f" /AA << /K {acts['javascript']} /F {acts['javascript']} >> >>"
    )
    yield (
        "pdf-form-with-script.pdf",
        page(catalogue=fields, leaf="/Annots [6 0 R]", more=[field.encode()]),
    )


def attachments(url: str) -> Iterator[Named]:
    """Files in the file: listed at most, never opened."""
    inside = page(b"BT /F1 22 Tf 20 50 Td (%s) Tj ET" % CANARY.encode())
    listed = "/Names << /EmbeddedFiles << /Names [{}] >> >>"

    def holding(name: str, data: bytes, times: int = 1) -> bytes:
        spec = f"<< /Type /Filespec /F ({name}) /EF << /F 7 0 R >> >>".encode()
        entry = f"({name}) 6 0 R " * times
        held = [spec, stream(data, "/Type /EmbeddedFile")]
        return page(catalogue=listed.format(entry), more=held)

    yield "pdf-attachment.pdf", holding("inside.pdf", inside)
    yield "pdf-attachment-slip.pdf", holding("../../../etc/passwd", inside)
    yield "pdf-attachment-program.pdf", holding("invoice.exe", b"MZ" + bytes(500))
    yield "pdf-attachments-10000.pdf", holding("a.txt", b"A KITE", 10_000)
    # Objects 6 and 7 hold each other: a reader that unpacks never comes back.
    yield (
        "pdf-attachment-itself.pdf",
        page(
            catalogue=listed.format("(me.pdf) 6 0 R"),
            more=[
                b"<< /Type /Filespec /F (me.pdf) /EF << /F 7 0 R >> >>",
                b"<< /Length 6 0 R /Type /EmbeddedFile >>\nstream\n%PDF-1.7\nendstream",
            ],
        ),
    )
    far = f"<< /Type /Filespec /FS /URL /F ({url}/attached) >>"
    yield (
        "pdf-attachment-remote.pdf",
        page(catalogue=listed.format("(far) 6 0 R"), more=[far.encode()]),
    )
    nested = inside
    for _ in range(6):
        nested = holding("inside.pdf", nested)
    yield "pdf-attachments-6-deep.pdf", nested
