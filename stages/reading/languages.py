"""
Languages and scripts: what a page seems to be written in, and who here can read it.

Names are tesseract's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from stages.reading.tesseract import installed_languages

# Small words that every page of prose has, of languages in Latin letters.  Tables of
# character sequences know more languages, and cost each process half a second and
# 100 MB; what they would be asked is whether this is English.
WORDS = {
    "ces": "a se na je že to v s z do o k i pro jako jsem není by ale které",
    "dan": "og i det at en er den til på de med for som ikke der af jeg vi har et",
    "deu": "der die und in den das von zu mit sich des ist im auf ich nicht wir ein",
    "eng": "the of and to in a is that for it was with as be on by at are this from",
    "fin": "ja on ei se että oli hän ovat mutta kuin joka myös sen tai niin kun me",
    "fra": "de la le et les des en un du une que est pour qui dans nous vous par au",
    "hun": "a az és hogy nem egy is volt ez meg csak de már mint még ha vagy ki el",
    "ita": "di e che il la in un per è una sono con non del si da le dei al come",
    "lit": "ir kad į iš su yra buvo tai bet kaip ar už apie jo per po nuo mes savo",
    "nld": "de van het een en in is dat op te zijn met voor niet aan er om ook als wij",
    "nor": "og i det er på en som til av for at med har de ikke jeg den vi et var",
    "pol": "i w na z do nie się to że jest o jak za od po przez ale dla który oraz",
    "por": "de a o que e do da em um para é com não uma os no se na por mais",
    "ron": "de și în la a cu pe nu o din că pentru este un care mai sau ca prin se",
    "slk": "a sa na je že to v s z do o k pre ako som nie by ale ktoré aj",
    "spa": "de la que el en y a los del se las por un para con no una su al lo",
    "swe": "och i att det som en på är av för den till med inte har de om ett jag vi",
    "tur": "ve bir bu da de için ile çok daha ne gibi olan olarak en ama her değil",
}
# Scratches are read as single letters.
_WORDS = {
    name: frozenset(word for word in words.split() if len(word) > 1)
    for name, words in WORDS.items()
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
WORDS_MIN = 12  # of a text: in less, any language is found
# Of a text's words, the share of small ones of its language: German, French and Spanish
# read with English data 0.17 and more; lists and receipts in English, taken for any
# other language, 0.11 and less.
PROSE = 0.14
MORE = 2.0  # times as many as of the language that it was read in


def noticed(text: str, lang: str) -> str:
    """The language that a text read with `lang` seems to be in; "" where it is that."""
    words = re.findall(r"[^\W\d_]{2,}", text.lower())
    ours = [name for name in lang.split("+") if name in _WORDS]
    if len(words) < WORDS_MIN or not ours:
        return ""
    hits = {
        name: sum(word in small for word in words) for name, small in _WORDS.items()
    }
    best = max(hits, key=lambda name: hits[name])
    own = max(hits[name] for name in ours)
    seems = hits[best] >= PROSE * len(words) and hits[best] > MORE * own
    return best if seems else ""


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
