"""Characters of bytes: any name of an encoding, none, and what is in doubt."""

from __future__ import annotations

import io

import pytest

from stages.formats import plain
from stages.formats.charsets import codec, decoded, is_doubtful, reads_well

# Letters as people write them, in encodings that no file names.
LETTERS = [
    ("cp1252", "Grüße an alle, außer mir, und schöne Ferien"),
    ("cp1252", "Chère Madame, le règlement a été effectué"),
    ("cp1250", "Szanowna Pani, proszę o przesłanie książki do Łodzi"),
    ("iso8859-2", "Szanowna Pani, proszę o przesłanie książki do Łodzi"),
    ("mac_roman", "Der Käse schmeckt großartig, sagte der Müller über die Brücke."),
    ("koi8-r", "Уважаемые друзья, благодарим вас за письмо"),
    ("cp866", "Уважаемые друзья, благодарим вас за письмо"),
    ("cp1253", "Καλημέρα σας, παρακαλώ στείλτε μου το βιβλίο."),
    ("gb18030", "请把书寄到新的地址，谢谢。"),
    ("cp932", "新しい住所に本を送ってください。"),
    ("cp949", "새 주소로 책을 보내 주세요. 감사합니다."),
]
SHORT = [
    ("mac_roman", "señor Muñoz, mañana"),
    ("mac_roman", "da\xdf"),
    ("cp850", "Größe"),
    ("cp1250", "proszę"),
    ("cp852", "ofertę. Proszę o"),
]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cp-850", "cp850"),
        ("windows-874", "cp874"),
        ("gb2312", "gb18030"),
        ("ISO_8859-1", "cp1252"),
        (' "Shift-JIS" ', "cp932"),
        ("x-mac-ce", "mac_latin2"),
        ("utf8mb4", "utf-8"),
        ("ibm-852", "cp852"),
        ("hz-gb-2312", "hz"),
        ("us-ascii", ""),
        ("x-nobody", ""),
        ("zlib_codec", ""),
        ("idna", ""),
    ],
)
def test_an_encoding_is_known_by_any_of_its_names(label: str, name: str) -> None:
    """As senders spell it; a name that says nothing, or is none, is none."""
    assert codec(label) == name


@pytest.mark.parametrize(("encoding", "text"), LETTERS)
def test_text_that_names_nothing_is_read(encoding: str, text: str) -> None:
    """The right characters, and certain of them."""
    found = decoded(text.encode(encoding))

    assert (found.text, is_doubtful(found)) == (text, False)


@pytest.mark.parametrize(("encoding", "text"), SHORT)
def test_too_little_to_know_is_a_doubt(encoding: str, text: str) -> None:
    """A word that is one thing in one encoding and another in the next is held."""
    assert is_doubtful(decoded(text.encode(encoding)))


@pytest.mark.parametrize(
    ("data", "label"),
    [
        ("Grüße".encode("cp1252"), "utf-8"),
        (b"caf\xff\xfe", "cp949"),
        (b"caf\x81", "windows-1252"),
        ("Žluťoučký kůň pěl ódy, dlouho a rád".encode() + b"\xff", "utf-8"),
        ("what was lost before \ufffd".encode(), "utf-8"),
    ],
)
def test_bytes_that_do_not_decode_are_a_doubt(data: bytes, label: str) -> None:
    """Whatever the name says, and however little it is."""
    assert is_doubtful(decoded(data, label))


def test_utf8_is_known_whatever_it_is_called() -> None:
    """A mail that calls its UTF-8 Latin-1 says what it means."""
    assert decoded("Grüße, Žofie".encode(), "iso-8859-1").text == "Grüße, Žofie"


def test_a_page_in_ascii_is_never_in_doubt() -> None:
    """Only what may be other characters is."""
    uncertain = decoded("señor".encode("mac_roman"))

    assert not is_doubtful(uncertain._replace(text="page two of it"))


@pytest.mark.parametrize("text", ["kŠse", "ksi¹¿ka", "Приvet", "a\x85b", "se–\ufffd"])
def test_words_in_the_wrong_encoding_do_not_read_well(text: str) -> None:
    """Case, script and signs inside words give them away."""
    assert not reads_well(text)


@pytest.mark.parametrize(
    "encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize(
    "text", ["Two lines,\r\nno mark.", "请把书寄到\n新的地址 12。"]
)
def test_wide_text_without_a_mark_is_known(encoding: str, text: str) -> None:
    """By the bytes that its characters share, in Latin and in Chinese."""
    data = text.encode(encoding)

    assert plain.encoding_of(io.BytesIO(data), data) == plain.Encoding(encoding)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe" + bytes(range(256)) * 4,
        b"a label" + bytes(4000),
        bytes(5000),
        b"\x00\x01\x02\x03" * 900,
    ],
)
def test_what_cannot_be_printed_is_no_text(data: bytes) -> None:
    """Whatever its first bytes say."""
    assert plain.encoding_of(io.BytesIO(data), data) is None
