"""
Rule files: what to look for in a text, written so that anyone can edit it.

A folder's `rules/*.toml`, one category a file, become one `Rulebook`.  Phrases
are matched word by word along a `Normalised` text, trying every reading of every
word, so one phrase also finds its disguises.  docs/moderation.md shows the form.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.errors import Usage
from pipeline.stage import Folder
from stages.rules.normaliser import Normalised, normalise
from stages.rules.phrases import WORD, Element, Lattice, Vocabulary, walk

MAX_FILES = 100
MAX_PATTERNS = 100  # in a folder: each one reads the whole text again
MAX_PATTERN_COST = 2000  # tries a place: bounds the time a pattern takes
MAX_HITS = 50  # of one rule in one text; a reviewer has long seen enough
MAX_GAPS = 2  # in a phrase

_PART = re.compile(r"\([^()]*\)\??|\S+")

_THRICE = re.compile(r"([^\W\d_])\1\1")  # in a text these are read as one or two

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Phrase = Annotated[str, StringConstraints(min_length=2, max_length=200)]

# -- the form of a rule file -----------------------------------------------------------


class RuleForm(BaseModel):
    """One `[[rule]]`: a name for the reviewer, and what it looks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    phrases: list[Phrase] = Field(default_factory=list, max_length=1000)
    patterns: list[Phrase] = Field(default_factory=list, max_length=MAX_PATTERNS)
    unless: list[Phrase] = Field(default_factory=list, max_length=1000)


class CategoryForm(BaseModel):
    """A rule file: one category, what it does to an item, and its rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    action: Literal["allow", "hold", "block"]
    severity: int = Field(ge=1, le=5)
    words: dict[Name, list[Phrase]] = Field(default_factory=dict)
    unless: list[Phrase] = Field(default_factory=list, max_length=1000)
    rule: list[RuleForm] = Field(min_length=1, max_length=200)


# -- compiled rules --------------------------------------------------------------------


class Hit(NamedTuple):
    """A match: [start, end) of the normalised text, and the rule that made it."""

    start: int
    end: int
    category: str
    rule: str


@dataclass(frozen=True, slots=True)
class Trail:
    """A compiled phrase; as an excuse (`unless`) it cancels what it overlaps."""

    elements: tuple[Element, ...]
    category: str
    rule: str  # "" for an excuse of the whole category
    excuse: bool

    def needs(self) -> Iterator[Element]:
        """The elements without which it cannot match, the first one first."""
        return (e for e in self.elements if not (e.gap or e.optional))


@dataclass(frozen=True, slots=True)
class Category:
    """What a category does to an item."""

    name: str
    action: Literal["allow", "hold", "block"]
    severity: int


@dataclass(frozen=True)
class Rulebook:
    """
    Every rule of a folder, compiled.  Immutable; one is shared by all items.

    Attributes:
        categories: By name.
        trails: Phrases and excuses.
        needs: For each trail the numbers of the elements it needs, the first one
            first.
        heard: Word, or stem with a star, to the elements that it may begin.
    """

    categories: Mapping[str, Category]
    trails: tuple[Trail, ...]
    patterns: tuple[tuple[re.Pattern[str], str, str], ...]
    vocabulary: Vocabulary
    needs: tuple[tuple[int, ...], ...] = field(repr=False)
    heard: Mapping[str, Sequence[int]] = field(repr=False)

    def hits(self, text: Normalised) -> list[Hit]:
        """What the rules find, without what is excused, in the text's order."""
        found: list[Hit] = []
        excuses: list[Hit] = []
        lattice = Lattice(text, self.vocabulary)
        begun = lattice.begun = self._begun(lattice)
        # Nearly every phrase needs a word that is nowhere in the text: leaving
        # those out first is what makes a letter cost milliseconds.
        present = set().union(*begun)
        led: dict[int, list[Trail]] = {}
        for trail, needs in zip(self.trails, self.needs, strict=True):
            if present.issuperset(needs):
                led.setdefault(needs[0], []).append(trail)
        count: Counter[tuple[str, str]] = Counter()  # no rule may crowd others out
        for node, elements in enumerate(begun):
            for trail in [t for e in elements for t in led.get(e, ())]:
                rule = (trail.category, trail.rule)
                if not trail.excuse and count[rule] >= MAX_HITS:
                    continue
                if end := walk(lattice, trail.elements, node, 0):
                    hit = Hit(lattice.starts[node], end, *rule)
                    (excuses if trail.excuse else found).append(hit)
                    count[rule] += not trail.excuse
        for pattern, category, name in self.patterns:
            found += [
                Hit(*match.span(), category, name)
                for match in islice(pattern.finditer(text.text), MAX_HITS)
                if match.end() > match.start()
            ]
        return _without(found, excuses)

    def _begun(self, lattice: Lattice) -> list[set[int]]:
        """For each node, the elements that its words may begin."""
        known: dict[str, list[int]] = {}  # words come again and again
        begun: list[set[int]] = []
        for node in range(len(lattice)):
            here = {-1}
            for edge in lattice.edges(node):
                for word in edge.readings:
                    if word not in known:
                        known[word] = list(self._begins(word))
                    here.update(known[word])
            begun.append(here)
        return begun

    def _begins(self, word: str) -> Iterator[int]:
        yield from self.heard.get(word, ())
        for n in range(3, len(word) + 1):  # no stem is shorter
            yield from self.heard.get(f"{word[:n]}*", ())


def _without(found: list[Hit], excuses: list[Hit]) -> list[Hit]:
    """Hits that no excuse of their category (or rule) overlaps, each rule once."""
    kept: list[Hit] = []
    for hit in sorted(set(found)):
        if any(
            excuse.category == hit.category
            and excuse.rule in ("", hit.rule)
            and excuse.start < hit.end
            and hit.start < excuse.end
            for excuse in excuses
        ):
            continue
        # Two phrases of one rule over the same words are one reason.
        within = (k for k in reversed(kept) if k[2:] == hit[2:])
        before = next(within, None)
        if before and hit.start < before.end:
            if hit.end > before.end:
                kept[kept.index(before)] = Hit(before.start, hit.end, *hit[2:])
            continue
        kept.append(hit)
    return kept


# -- from files to a rulebook ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Where a rulebook comes from; equal when root, version and glob are."""

    root: Path
    version: str
    pattern: str
    folder: Folder = field(compare=False, hash=False)


def rulebook(folder: Folder, pattern: str = "rules/*.toml") -> Rulebook:
    """
    The rulebook of a pipeline folder's version, compiled once.

    Raises:
        Usage: RULES_MISSING without a rule file, RULES_INVALID naming the file
            and the key that is wrong.
    """
    return _compiled(_Shelf(folder.root, folder.version, pattern, folder))


# Eight: the pipelines and versions that one worker may serve side by side.
@lru_cache(maxsize=8)
def _compiled(shelf: _Shelf) -> Rulebook:
    paths = shelf.folder.files(shelf.pattern)
    names = [path.relative_to(shelf.root).as_posix() for path in paths]
    return compile_rules({name: shelf.folder.text(name) for name in names})


def compile_rules(files: Mapping[str, str]) -> Rulebook:
    """
    Compile rule files, given as name and TOML text.

    Raises:
        Usage: as `rulebook`.
    """
    if not files:
        raise Usage(
            "there is no rule file, so every text would pass",
            code="RULES_MISSING",
            hint="put at least one TOML file into the pipeline's rules folder",
        )
    if len(files) > MAX_FILES:
        raise _broken(next(iter(files)), "", f"more than {MAX_FILES} rule files")
    categories: dict[str, Category] = {}
    trails: list[Trail] = []
    patterns: list[tuple[re.Pattern[str], str, str]] = []
    for name, text in files.items():
        form = _parse(name, text)
        if form.category in categories:
            raise _broken(name, "category", "another file has this category")
        categories[form.category] = Category(form.category, form.action, form.severity)
        trails += _trails(name, form)
        patterns += _patterns(name, form)
    if len(patterns) > MAX_PATTERNS:
        raise _broken("", "patterns", f"more than {MAX_PATTERNS} in all files")
    return _indexed(categories, trails, patterns)


def _indexed(
    categories: Mapping[str, Category],
    trails: Sequence[Trail],
    patterns: Sequence[tuple[re.Pattern[str], str, str]],
) -> Rulebook:
    """Number the elements, and note which words may begin which."""
    words = Vocabulary()
    numbers: dict[Element, int] = {}
    heard: dict[str, list[int]] = {}
    needs: list[tuple[int, ...]] = []
    numbered: list[Trail] = []
    for trail in trails:
        for element in trail.elements:
            for word in element.words():
                words.add(word)
            if element not in numbers:
                numbers[element] = len(numbers)
                for word in set(element.beginnings()):
                    heard.setdefault(word, []).append(numbers[element])
        needs.append(tuple(numbers[element] for element in trail.needs()))
        elements = tuple(replace(e, number=numbers[e]) for e in trail.elements)
        numbered.append(replace(trail, elements=elements))
    return Rulebook(
        categories, tuple(numbered), tuple(patterns), words, tuple(needs), heard
    )


def _broken(name: str, key: str, why: str) -> Usage:
    where = f"{name}: {key}" if key else name or "the rule files"
    return Usage(
        f"{where}: {why}",
        code="RULES_INVALID",
        hint="mend the file; docs/moderation.md shows the form of a rule file",
    )


def _parse(name: str, text: str) -> CategoryForm:
    try:
        return CategoryForm.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _broken(name, "", f"not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _broken(name, key, first["msg"]) from error


def _trails(name: str, form: CategoryForm) -> Iterator[Trail]:
    """Every phrase and excuse of a file, compiled."""
    lists = {key: _element(name, f"words.{key}", e) for key, e in form.words.items()}
    groups: list[tuple[str, str, bool, list[str]]] = [("", "unless", True, form.unless)]
    for rule in form.rule:
        key = f"rule.{rule.name}"
        groups.append((rule.name, f"{key}.phrases", False, rule.phrases))
        groups.append((rule.name, f"{key}.unless", True, rule.unless))
    for rule_name, key, excuse, phrases in groups:
        for phrase in phrases:
            elements = _elements(name, key, phrase, lists)
            yield Trail(elements, form.category, rule_name, excuse)


def _elements(
    name: str, key: str, phrase: str, lists: Mapping[str, Element]
) -> tuple[Element, ...]:
    """Compile a phrase: `a|b`, `(a|b c)`, `stem*`, `{list}`, `maybe?`, `...`."""
    elements: list[Element] = []
    for part in _PART.findall(phrase):
        maybe = part.endswith("?")
        plain = part.removesuffix("?")
        if plain == "...":
            elements.append(Element(gap=True))
            continue
        if plain.startswith("(") and plain.endswith(")"):
            plain = plain[1:-1]
        choices = [choice.strip() for choice in plain.split("|")]
        elements.append(_either([_choice(name, key, c, lists) for c in choices], maybe))
    solid = [not (e.gap or e.optional) for e in elements]
    if not solid or not solid[0] or elements[-1].gap:
        raise _broken(name, key, f"{phrase!r} must begin and end with a word")
    if sum(e.gap for e in elements) > MAX_GAPS:
        raise _broken(name, key, f"{phrase!r} has more than {MAX_GAPS} gaps")
    return tuple(elements)


def _choice(name: str, key: str, choice: str, lists: Mapping[str, Element]) -> Element:
    """One of the alternatives of a place: words, some of which may be lists."""
    if "{" not in choice:
        return _element(name, key, [choice])
    parts: list[Element] = []
    for word in choice.split():
        if not word.startswith("{"):
            parts.append(_element(name, key, [word]))
        elif word[1:-1] in lists:
            parts.append(lists[word[1:-1]])
        else:
            raise _broken(name, key, f"no list named {word} in [words]")
    return parts[0] if len(parts) == 1 else Element(chains=(tuple(parts),))


def _element(name: str, key: str, entries: Sequence[str]) -> Element:
    """Any of `entries`; one of several words becomes a chain."""
    exact: set[str] = set()
    stems: set[str] = set()
    chains: list[tuple[Element, ...]] = []
    for entry in entries:
        words: list[str] = []
        for written in entry.split():
            parts = WORD.findall(normalise(written.removesuffix("*")).text)
            if not parts or "*" in written[:-1] or set("(){}?") & set(written):
                raise _broken(name, key, f"cannot read {written!r}")
            if _THRICE.search(written.replace("'", "")):
                raise _broken(
                    name, key, f"{written!r}: a letter at most twice in a row"
                )
            if written.endswith("*"):
                parts[-1] += "*"
            words += parts
        if any(w.endswith("*") and len(w) < 4 for w in words):
            raise _broken(name, key, f"{entry!r}: three letters before a star")
        if not words:
            raise _broken(name, key, f"an empty choice in {entries!r}")
        if len(words) > 1:
            chains.append(tuple(_single(word) for word in words))
        elif words[0].endswith("*"):
            stems.add(words[0][:-1])
        else:
            exact.add(words[0])
    return Element(frozenset(exact), tuple(sorted(stems)), tuple(chains))


def _either(choices: Sequence[Element], optional: bool) -> Element:
    """Any of `choices`, as one element."""
    return Element(
        frozenset(word for choice in choices for word in choice.exact),
        tuple(stem for choice in choices for stem in choice.stems),
        tuple(chain for choice in choices for chain in choice.chains),
        optional,
    )


def _single(word: str) -> Element:
    if word.endswith("*"):
        return Element(stems=(word[:-1],))
    return Element(frozenset((word,)))


# -- patterns: regular expressions on a leash ------------------------------------------

_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?[:=!]|\?<[=!])?|\)"
    r"|\{(\d*)(,?)(\d*)\}|[*+?]|.",
    re.DOTALL,
)


def _patterns(
    name: str, form: CategoryForm
) -> Iterator[tuple[re.Pattern[str], str, str]]:
    for rule in form.rule:
        for pattern in rule.patterns:
            key = f"rule.{rule.name}.patterns"
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise _broken(name, key, f"not a regular expression: {error}") from None
            if (why := _leash(pattern)) is not None:
                raise _broken(name, key, why)
            yield compiled, form.category, rule.name


def _leash(pattern: str) -> str | None:
    """Why `pattern` could take long on some text; None when it cannot."""
    cost = 1
    groups: list[bool] = []  # does the open group contain a quantifier?
    closed = False  # did the last piece close a group that contains one?
    group = False  # was the last piece a group at all?
    for piece in _PIECE.finditer(pattern):
        part = piece[0]
        if part in ("*", "+") or (piece[2] and not piece[3]):
            return "unbounded; write {0,40} in the place of * or {1,40} of +"
        if part == "?" or piece[1] is not None:
            most = 2 if part == "?" else int(piece[3] or piece[1] or 1)
            if closed or (group and most > 4):
                return "a repeated group with a repetition in it"
            cost *= most if part == "?" or piece[2] else 1
            groups = [True] * len(groups)
        elif part.startswith("("):
            groups.append(False)
        closed = part == ")" and bool(groups) and groups.pop()
        group = part == ")"
    if cost > MAX_PATTERN_COST:
        return f"too many repetitions: their product exceeds {MAX_PATTERN_COST}"
    return None
