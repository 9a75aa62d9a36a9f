"""Another language is noticed, and what is there to read a script is found."""

from __future__ import annotations

import pytest

from stages.reading import languages
from stages.reading.languages import data_for, noticed, script_of

GERMAN = (
    "Sehr geehrte Damen und Herren, hiermit m6chte ich mich herzlich fir die sch6ne"
    " Fihrung durch das Museum bedanken. Die Kinder fanden die Dampfmaschinen gut."
)
FRENCH = (
    "Cher Monsieur, nous avons bien regu votre lettre du 3 mars et nous vous"
    " remercions de votre commande, qui partira demain."
)
ENGLISH = (
    "Dear Sir, we thank you for your letter of the 3rd of March and for your order,"
    " which leaves tomorrow by the first train."
)
RECEIPT = (
    "HILLSIDE MARKET 2 x Brown bread 12.50 Oat milk 1L 3.99 Basmati rice 4.10 TOTAL"
    " 20.59 CASH CHANGE Coffee beans Paper towels Dark chocolate Hand cream"
)


@pytest.mark.parametrize(
    ("text", "lang", "name"),
    [
        (GERMAN, "eng", "deu"),
        (FRENCH, "eng", "fra"),
        (FRENCH, "eng+fra", ""),
        (ENGLISH, "eng", ""),
        (ENGLISH, "deu", "eng"),
        (RECEIPT, "eng", ""),
        ("Sehr geehrte Damen", "eng", ""),  # too little to tell
        ("", "eng", ""),
    ],
)
def test_another_language_is_named(text: str, lang: str, name: str) -> None:
    """As tesseract names it, though letters were misread."""
    assert noticed(text, lang) == name


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Größe 12", "LATIN"),
        ("שלום עולם", "HEBREW"),
        ("مرحبا", "ARABIC"),
        ("안녕하세요", "HANGUL"),
        ("朱镕基先生", "CJK"),
        ("Привет", "CYRILLIC"),
        ("12.50", ""),
    ],
)
def test_a_script_is_known_by_its_letters(text: str, script: str) -> None:
    """By most of them."""
    assert script_of(text) == script


def test_a_script_is_read_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any data that know it will do; without any nobody can tell."""
    monkeypatch.setattr(languages, "installed_languages", lambda: ["eng", "fas"])

    assert data_for("ARABIC") == "fas"
    assert data_for("HEBREW") == data_for("LATIN") == ""
