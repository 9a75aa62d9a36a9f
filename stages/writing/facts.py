"""
What a child's letter surely says: the facts `generation` may mention.

Children's spelling and OCR both scatter letters, so every rule here would rather
miss a fact than invent one.  Every repetition is bounded: a page of noise costs
as much as a letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTER_CHARS_MAX = 12_000  # about eight handwritten pages; the rest is not read


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight"),
    *("nine", "ten", "eleven", "twelve", "thirteen", "fourteen"),
)
NOT_NAMES = _words(
    "a age aged all always am and are best bye christmas claus claws clause dad "
    "daddy day dear december dec elf elves end eve father for friend from girl "
    "boy god good grandma grandpa happy have hello hi hope how hugs i im is jesus "
    "january kisses little love loves lots man mama me merry mom mommy mother mr "
    "mrs much mum mummy my new no nick north november of oh old our papa please "
    "pole ps regards rudolph saint san santa see sincerely so sorry st street the "
    "thank thanks thankyou this to truly very we with xmas year years yes you "
    "your yours"
)
_NAME = r"([^\W\d_]{2,15})"
_SAID_NAME = re.compile(
    rf"\b(?:my\s{{1,3}}n[ao]me\s{{0,3}}(?:is|['’]s)|i\s{{1,3}}am\s{{1,3}}called)\s{{1,3}}{_NAME}",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"^\W{0,5}(?:(?:with|lots\sof|all\smy|and)\s{1,3}){0,3}"
    r"(?:love|from|yours?(?:\s{1,3}(?:truly|sincerely|friend|little|boy|girl|pal)){0,3}"
    r"|sincerely|your\s{1,3}friend|thank\s{0,3}you|thanks|hugs|bye|xo[xo]{0,8})\b"
    r"(?:\s{1,3}from\b)?[\s,.:;!*~—–-]{0,6}",
    re.IGNORECASE,
)
_YOURS = re.compile(
    rf"\b(?:yours\s{{1,3}}truly|sincerely|your\s{{1,3}}friend)[\s,.:;—–-]{{1,5}}{_NAME}",
    re.IGNORECASE,
)
_AGE = re.compile(
    r"\b(?:i\s{0,2}(?:am|['’]m|m)|age[d]?|i\s{1,3}just\s{1,3}turned)\s{1,3}"
    r"(?:(?:a|an|now|only|almost)?\s{0,3}(?:(?:good|little|big)\s{1,3}){0,2}"
    r"(?:boy|girl)?\s{0,3}(?:of|who\sis|aged)?\s{0,3})?"
    rf"(\d{{1,2}}|{'|'.join(NUMBERS[2:])})\b"
    r"(?!\s{0,3}(?:[-/.:]\d|brothers?|sisters?|feet|inches|times|months|weeks|days))",
    re.IGNORECASE,
)
_WISH = re.compile(
    r"\b(?:i\s{1,3}(?:(?:really|also|just|only|do)\s{1,3}){0,2}"
    r"(?:want|wish\s{1,3}for|need|(?:would|wud|wood)\s{1,3}(?:really\s{1,3}|also\s{1,3})?"
    r"(?:like|love))|i['’]d\s{1,3}(?:really\s{1,3})?(?:like|love)"
    r"|(?:can|could|may)\s{1,3}i\s{1,3}(?:please\s{1,3})?(?:have|get)"
    r"|(?:bring|get|send|give)\s{1,3}me)\b"
    r"(?:\s{1,3}(?:please|you\s{1,3}to\s{1,3}(?:bring|get|give|send)(?:\s{1,3}me)?"
    r"|to\s{1,3}(?:have|get)|for\s{1,3}christmas|is|are)){0,3}[\s:,-]{1,4}"
    r"([^.!?;\f]{3,220})",
    re.IGNORECASE,
)
_LEAVES_OFF = re.compile(
    r"\b(?:because|becaus|cause|so|for|that|which|who|as|but|if|when|like|please|from"
    r"|since|too|then|also)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_THING = re.compile(
    r"(?:[^\W\d_][\w'’-]{0,15}|[1-9]\d?)(?:\s(?:[^\W\d_][\w'’-]{0,15}|\d{1,2})){0,5}"
)
# Words that make a wish no thing, or none to be chatty about.
NO_WISH = _words(
    "i me you he she it we they him her us them your his their not no is are was "
    "were be been do does did will would have has had to anything everything "
    "something thing things most any know see hope love die died dead mom mum "
    "mommy dad daddy mother father brother sister grandma grandpa mama papa "
    "parents family friend friends gun guns knife pistol rifle beer wine tobacco "
    "cigarettes money job house home food medicine back better well don't dont"
)
_HARD = re.compile(
    r"\b(?:died|dead|dying|passed\s{1,3}away|in\s{1,3}heaven|funeral|hospital|cancer"
    r"|divorc\w{1,4}|(?:very|real|so|is)\s{1,3}(?:sick|ill)|no\s{1,3}money|lost\s{1,3}"
    r"(?:his|her|my|our|their)\s{1,3}(?:job|home|house)|in\s{1,3}(?:jail|prison)"
    r"|misses?\s{1,3}(?:my|him|her)|bull(?:y|ied|ies)|hurts?\s{1,3}me|so\s{1,3}sad)\b",
    re.IGNORECASE,
)
# A name needs its capital; everything around it may be written anyhow.
_CALLED = (
    r"(?i:(?:['’]s)?\s{1,3}(?:name\s{1,3}is|is\s{1,3}(?:named|called)|named|called)|,)?"
    r"(?:\s{1,3}([A-Z][a-z]{1,12})\b)?"
)
_PET = re.compile(
    r"(?i:\bmy\s{1,3}(dog|puppy|cat|kitten|hamster|rabbit|bunny|pony|horse|goldfish"
    r"|parrot|turtle|guinea\spig)\b)" + _CALLED
)
_SIBLING = re.compile(
    r"(?i:\bmy\s{1,3}(?:(little|big|baby|older|younger|twin)\s{1,3}|\w{2,8}\s{1,3})?"
    r"(brother|sister)\b)" + _CALLED
)


def facts_in(text: str) -> tuple[dict[str, str], set[str]]:
    """
    What a letter says of its writer: fields for the templates, and flags.

    Fields: `name` (first name), `age` (a word, two to fourteen), `wish` and
    `wishes` (things, in the child's words), `pet` and `sibling` ("your dog
    Rex").  A field that is not surely there is not there.  Flag: `hard`.
    """
    text = text[:LETTER_CHARS_MAX].replace("\f", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    body, signature = _parted(lines)
    known: dict[str, str] = {}
    if name := _first_name(body, signature):
        known["name"] = name
    if age := _age(body, signature):
        known["age"] = age
    if things := _wishes(body):
        known["wish"] = things[0]
        known["wishes"] = _listed(things)
    for field, found in (("pet", _PET), ("sibling", _SIBLING)):
        if relative := _relative(body, found):
            known[field] = relative
    return known, {"hard"} if _HARD.search(text) else set()


def _parted(lines: list[str]) -> tuple[str, list[str]]:
    """The letter's body as one text, and the lines of its signature."""
    for place in range(max(1, len(lines) - 5), len(lines)):
        rest = _CLOSING.sub("", lines[place], count=1)
        # "Thank you for the doll last year" is no signature.
        if rest != lines[place] and len(rest.split()) <= 4:
            return _joined(lines[:place]), [rest, *lines[place + 1 :]]
    for place in range(max(1, len(lines) - 4), len(lines)):
        # A name alone, or before its address, after a sentence that ended.
        alone = re.fullmatch(
            r"(?:Little\s)?([A-Z][^\W\d_]{1,14}(?:\s[A-Z][\w.'’-]{0,15})?)"
            r"(?:[,.]\s?(?=[^,]{0,20}\d)[^\n]{1,60}|[.,!]?)",
            lines[place],
        )
        if alone and re.search(r"[.!?]['\"”)]?$", lines[place - 1]):
            if re.search(r"\d", lines[place - 1][-40:]):
                break  # below an address stands a town
            return _joined(lines[:place]), lines[place:]
    return _joined(lines), []


def _joined(lines: list[str]) -> str:
    # A line that starts with a bullet is a list's; any other goes on.
    return "".join(
        (", " if re.match(r"(?:[-*•·]|\d{1,2}[.)])\s", line) else " ")
        + re.sub(r"^(?:[-*•·]|\d{1,2}[.)])\s{0,3}", "", line)
        for line in lines
    ).strip()


def _first_name(body: str, signature: list[str]) -> str:
    candidates = [match[1] for match in _SAID_NAME.finditer(body)]
    for line in signature[:2]:
        if first := re.match(rf"\W{{0,3}}(?:Little\s)?{_NAME}\b", line):
            # Children sign in small letters, but then with the name alone.
            if first[1][0].isupper() or len(line.split()) == 1:
                candidates.append(first[1])
            break
        if line:
            break
    candidates += [match[1] for match in _YOURS.finditer(body[-160:])]
    for name in candidates:
        if name.lower() not in NOT_NAMES and re.search("[aeiouyà-ÿ]", name.lower()):
            return name[0].upper() + name[1:].lower()
    return ""


def _age(body: str, signature: list[str]) -> str:
    match = _AGE.search(body) or re.search(
        r"\b(?:age[d]?\W{0,3})?(\d{1,2})(?:\s{1,2}years?)?\W{0,2}$",
        signature[0] if signature else "",
        re.IGNORECASE,
    )
    if match is None:
        return ""
    said = match[1].lower()
    years = int(said) if said.isdecimal() else NUMBERS.index(said)
    return NUMBERS[years] if 2 <= years < len(NUMBERS) else ""


def _wishes(body: str) -> list[str]:
    things: list[str] = []
    for match in _WISH.finditer(body):
        for part in re.split(r",|\band\b|&|\n", match[1]):
            thing = _thing(part)
            if thing and thing.lower() not in {each.lower() for each in things}:
                things.append(thing)
            if len(things) == 3:  # more would read like an order confirmed
                return things
    return things


def _thing(part: str) -> str:
    """One wish in the child's words, or "" when it is no plain thing."""
    text = " ".join(_LEAVES_OFF.sub("", part).split()).strip(" '’-*")
    words = text.split()
    if not words or not _THING.fullmatch(text):
        return ""
    if not NO_WISH.isdisjoint(word.lower() for word in words):
        return ""
    # A word without a vowel is OCR's, except short capitals: TV, PS5, DVD.
    if any(
        len(word) > 2 and not re.search("[aeiouyà-ÿ\\d]", word.lower())
        for word in words
        if not word.isupper()
    ):
        return ""
    if words[0].lower() in {"a", "an", "the", "some", "my", "new"}:
        words[0] = words[0].lower()
    if len(words) == 1 and (len(words[0]) < 3 or words[0] in {"the", "some", "new"}):
        return ""
    return " ".join("your" if word.lower() == "my" else word for word in words)


def _listed(things: Sequence[str]) -> str:
    if len(things) == 1:
        return things[0]
    return f"{', '.join(things[:-1])} and {things[-1]}"


def _relative(body: str, found: re.Pattern[str]) -> str:
    for sentence in re.split(r"[.!?]", body):
        match = found.search(sentence)
        # Of somebody who is ill, gone or only wished for nothing light is said.
        if match is None or _HARD.search(sentence) or _WISH.search(sentence):
            continue
        *kind, name = match.groups()
        named = name if name and name.lower() not in NOT_NAMES else None
        kinds = [word.lower() for word in kind if word]
        return " ".join(["your", *kinds, *([named] if named else [])])
    return ""
