"""
Languages and scripts: what a page seems to be written in, and who here can read it.

Names are tesseract's.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from stages.reading.tesseract import installed_languages

# What py3langid calls a language -> tesseract's name, where that is another.
NAMES = {
    "ar": "ara",
    "bg": "bul",
    "ca": "cat",
    "cs": "ces",
    "da": "dan",
    "de": "deu",
    "el": "ell",
    "en": "eng",
    "es": "spa",
    "et": "est",
    "eu": "eus",
    "fi": "fin",
    "fr": "fra",
    "he": "heb",
    "hi": "hin",
    "hr": "hrv",
    "hu": "hun",
    "id": "ind",
    "it": "ita",
    "ja": "jpn",
    "ko": "kor",
    "lt": "lit",
    "lv": "lav",
    "nl": "nld",
    "no": "nor",
    "nb": "nor",
    "pl": "pol",
    "pt": "por",
    "ro": "ron",
    "ru": "rus",
    "sk": "slk",
    "sl": "slv",
    "sr": "srp",
    "sv": "swe",
    "tr": "tur",
    "uk": "ukr",
    "vi": "vie",
    "zh": "chi_sim",
    "fa": "fas",
    "th": "tha",
}
# A script, as Unicode names its letters -> data of tesseract's that read it.
READ_BY = {
    "ARABIC": ("ara", "fas", "urd", "script/Arabic"),
    "HEBREW": ("heb", "yid", "script/Hebrew"),
    "HANGUL": ("kor", "script/Hangul"),
    "CJK": ("chi_sim", "chi_tra", "jpn", "script/HanS"),
    "HIRAGANA": ("jpn", "script/Japanese"),
    "KATAKANA": ("jpn", "script/Japanese"),
    "CYRILLIC": ("rus", "ukr", "bul", "srp", "script/Cyrillic"),
    "GREEK": ("ell", "grc", "script/Greek"),
    "THAI": ("tha", "script/Thai"),
    "DEVANAGARI": ("hin", "mar", "nep", "script/Devanagari"),
}
LETTERS_MIN = 80  # of a text: in less, any language is found
# How much likelier, as a logarithm a letter, a text must be in the other language.
# Receipts, letters and contracts in English, and what was made of scratches: up to
# 0.26; French, German, Spanish and Dutch read with English data: 0.7 and more.
LIKELIER = 0.5


def noticed(text: str, lang: str) -> str:
    """The language that a text read with `lang` seems to be in; "" where it is that."""
    words = re.findall(r"[^\W\d_]{2,}", text)
    letters = sum(map(len, words))
    if letters < LETTERS_MIN:
        return ""
    ranked = importlib.import_module("py3langid").rank(" ".join(words))
    likely = {name: value for name, value in ranked if name in NAMES}
    ours = [v for name, v in likely.items() if NAMES[name] in lang.split("+")]
    best = max(likely, key=lambda name: likely[name])
    if not ours or likely[best] - max(ours) < LIKELIER * letters:
        return ""
    return NAMES[best]


def script_of(text: str) -> str:
    """The script of most of its letters, as Unicode names them; "" without any."""
    counts = Counter(
        unicodedata.name(c, "").partition(" ")[0].partition("-")[0]
        for c in text
        if c.isalpha()
    )
    return counts.most_common(1)[0][0] if counts else ""


def data_for(script: str) -> str:
    """Data that read a script and are installed; "" where there are none."""
    return next(iter(_installed(READ_BY.get(script, ()))), "")


def _installed(names: Iterable[str]) -> list[str]:
    found = set(installed_languages())
    return [name for name in names if name in found]
