"""
Characters of bytes: in the encoding that is named, or the one they seem to be in.

A name is known by any of its aliases.  Where nothing is named, or the name does not
fit, the encoding is guessed, and a guess that is not certain is a doubt: text in the
wrong encoding looks whole to a program, and only a person sees that it is not.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import cache
from typing import NamedTuple

DOUBT = "ENCODING_UNKNOWN"  # why a page of text is held
UNDECODED = "\ufffd"
# What no text has: bytes that did not decode, and controls above ASCII but for NEL.
_ODD = re.compile("[\ufffd\x80-\x84\x86-\x9f]")
BOMS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# What programs name and what they write: the larger set that has the smaller one.
SUPERSETS = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
# Of Python's codecs: no encodings of text that anybody would send, or slow ones.
NO_CHARSETS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")
SHIFTED = re.compile(rb"\x1b[$(][@-J(]")  # ISO 2022: other characters follow
# Too little to say anything: the bytes themselves must decide.
SAYS_NOTHING = ("ascii", "replacement", "x-user-defined")
_NUMBERED = re.compile(r"(?:x|cp|win|windows|ibm|dos|ms|oem|codepage)+0*(\d{3,5})")
_MAC = {"ce": "mac_latin2", "centraleurope": "mac_latin2", "roman": "mac_roman"}

SAMPLE_BYTES = 16 << 10  # by which an encoding is guessed
# A guesser's certainty above which its guess is taken, when what it makes of the bytes
# reads well; of encodings with thousands of characters; and above which it speaks
# against another that reads well.  Its scale is its own: a line of Polish has 0.18.
GUESSED_MIN, GUESSED_WIDE_MIN, CONTRADICTS_MIN = 0.1, 0.25, 0.04
# Encodings that a file of today may be in without saying so.
USUAL = frozenset(
    {"cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"}
    | {"cp1258", "cp437", "cp850", "cp852", "cp866", "cp737", "cp874", "koi8-r"}
    | {"koi8-u", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-15", "mac-roman"}
    | {"mac-cyrillic", "mac-latin2", "gb18030", "big5hkscs", "cp932", "euc_jp"}
    | {"iso2022_jp", "cp949"}
)
# Small letters beside a-z of languages that are written in Windows-1252, which most
# text of no named encoding is in.  Only very short text of another one keeps to a line
# of these by chance.
WESTERN = [
    frozenset("äöüßéëçô"),
    frozenset("àâæçéèêëîïôœùûü"),
    frozenset("áéíñóúüïç"),
    frozenset("àáâãçéêíóôõúü"),
    frozenset("àèéìíîòóù"),
    frozenset("åäöé"),
    frozenset("æøåéèêóòâôü"),
    frozenset("áéíóúýþæöð"),
    frozenset("áéëïóöüèêû"),
    frozenset("äöõü"),
]
# Scripts that are written without spaces between words.
SPACELESS = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH", "FULLWIDTH"}
    | {"HANGUL", "THAI", "LAO", "KHMER", "MYANMAR"}
)
AFTER_LETTERS = frozenset("”’“»…€²³°ºª®™")  # signs of it that may follow a letter


class Decoded(NamedTuple):
    """Text of bytes; `doubt`: what is not ASCII in it may be other characters."""

    text: str
    doubt: bool = False


def decoded(data: bytes, label: str = "") -> Decoded:
    """
    Bytes as text.

    Args:
        label: The encoding's name as a sender gave it; "" for none.
    """
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return _read(data, encoding)
    encoding = codec(label)
    if not encoding and data.isascii() and not SHIFTED.search(data):
        return Decoded(data.decode("ascii"))
    wide = encoding.startswith(("utf-16", "utf-32")) if encoding else False
    if not data.isascii() and not wide and (not encoding or _one_byte(encoding)):
        # Nothing in another encoding is UTF-8 by chance, but for two or three letters.
        try:
            return Decoded(data.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    if encoding:
        found = _read(data, encoding)
        if not found.doubt or (encoding.startswith("utf-8") and mostly_utf8(data)):
            return found
    guessed, certain = guess(data)
    # What is not as it was named stays in doubt, however well it reads.
    return Decoded(data.decode(guessed, "replace"), bool(encoding) or not certain)


def is_doubtful(page: Decoded) -> bool:
    """Whether a person should look at this page of a text."""
    return UNDECODED in page.text or (page.doubt and not page.text.isascii())


@cache
def codec(label: str) -> str:
    """Python's name of the encoding that a label means; "" when it means none."""
    import webencodings

    label = label.strip().strip("\"'").lower()
    squeezed = re.sub(r"[^a-z0-9]", "", label).replace("isolatin", "latin")
    for name in (label, squeezed, squeezed.removeprefix("x")):
        found = _codec(name)
        if not found and (known := webencodings.lookup(name)) is not None:
            found = _codec(known.codec_info.name)
        if found:
            return "" if found in SAYS_NOTHING else SUPERSETS.get(found, found)
    if numbered := _NUMBERED.fullmatch(squeezed):
        found = _codec(f"cp{numbered[1]}")
        return SUPERSETS.get(found, found)
    mac = re.fullmatch(r"x?mac(?:os)?([a-z]+)", squeezed)
    if mac:
        return _MAC.get(mac[1]) or _codec(f"mac_{mac[1]}")
    return "utf-8" if squeezed.startswith(("utf8", "unicode11utf8")) else ""


def _codec(name: str) -> str:
    """Python's own name of an encoding of text; "" where it knows none."""
    try:
        info = codecs.lookup(name)
        "".encode(info.name)  # refuses what is no encoding of text
    except (LookupError, ValueError, UnicodeError):
        return ""
    return "" if info.name.replace("-", "_") in NO_CHARSETS else info.name


@cache
def _one_byte(encoding: str) -> bool:
    """Whether it writes every character in one byte: any bytes are text in it."""
    if encoding.startswith(("utf", "gb", "big5", "hz", "iso2022", "euc")):
        return False
    return not re.search(r"jis|johab|cp9[345]", encoding)


def _read(data: bytes, encoding: str) -> Decoded:
    """Bytes in an encoding; in doubt where they are not of it."""
    text = data.decode(encoding, "replace")
    return Decoded(text, _ODD.search(text) is not None)


def mostly_utf8(data: bytes) -> bool:
    """Whether what is not ASCII in here is UTF-8, but for damage here and there."""
    text = data.decode("utf-8", "replace")
    bad = text.count(UNDECODED)
    return bad * 20 < len(text) - len(text.encode("ascii", "ignore")) - bad


# -- guessing -------------------------------------------------------------------------


def guess(data: bytes) -> tuple[str, bool]:
    """The encoding of bytes that are not UTF-8, and whether that is certain."""
    import chardet

    if mostly_utf8(data):
        return "utf-8", True  # and what is damaged in it shows
    telling = [
        line for line in data.splitlines() if not line.isascii() or b"\x1b" in line
    ]
    sample = b"\n".join(telling)[:SAMPLE_BYTES]
    western = _western(sample)
    found = chardet.detect(sample)
    encoding, sure = codec(found["encoding"] or ""), found["confidence"]
    other = sample.decode(encoding, "replace") if encoding else ""
    sound = bool(encoding) and reads_well(other)
    if western and not (sound and sure >= CONTRADICTS_MIN and other != western):
        return "cp1252", True
    enough = GUESSED_MIN if encoding and _one_byte(encoding) else GUESSED_WIDE_MIN
    certain = sound and not western and encoding in USUAL and sure >= enough
    return encoding or "cp1252", certain


def _western(sample: bytes) -> str:
    """The bytes as Windows-1252, when that makes words of one of its languages."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    letters = {c for c in text.lower() if c > "\x7f" and c.isalpha()} - {"º", "ª"}
    signs = re.findall(r"(?<=[^\W\d_])[^\w\s\x00-\x7f]", text)
    known = any(letters <= alphabet for alphabet in WESTERN)
    return (
        text if known and AFTER_LETTERS.issuperset(signs) and reads_well(text) else ""
    )


def reads_well(text: str) -> bool:
    """Whether words are of one script, in one case, without signs between letters."""
    if UNDECODED in text:
        return False
    before, between = "", False  # the letter that this one follows; a sign in between
    for char in text:
        if char.isalpha():
            if before and (
                between
                or (max(char, before) > "\x7f" and not _go_together(before, char))
            ):
                return False
            before, between = char, False
            continue
        category = unicodedata.category(char)
        if char > "\x7f" and category in ("Cc", "Cn", "Co", "Cs"):
            return False
        if category[0] == "M":
            continue
        if char > "\x7f" and char not in "’‘·–—" and _script(before) not in SPACELESS:
            between = True
        else:
            before, between = "", False
    return True


def _go_together(one: str, other: str) -> bool:
    """Whether two letters may stand beside each other in a word."""
    scripts = {_script(one), _script(other)}
    if scripts & SPACELESS:
        return True  # names in Latin stand among them
    return len(scripts) == 1 and not (one.islower() and other.isupper())


@cache
def _script(char: str) -> str:
    """The script of a letter, by the first word of its name."""
    return unicodedata.name(char, "").partition(" ")[0] if char else ""
