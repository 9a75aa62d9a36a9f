"""
Rule files: what to look for in a text, written so that anyone can edit it.

A folder's `rules/*.toml`, one category a file, become one `Rulebook`.
docs/moderation.md shows the form.
"""

from __future__ import annotations

import re
import threading
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.errors import Usage
from pipeline.faults import Faults, faults_of, together
from pipeline.misfits import misfits_of
from pipeline.stage import Folder
from stages.rules.normaliser import normalise
from stages.rules.patterns import too_slow
from stages.rules.phrases import WORD, Element, Vocabulary
from stages.rules.rulebook import Category, Rulebook, Trail
from stages.rules.spelling import Speller

MAX_FILES = 100
MAX_PATTERNS = 100  # in a folder: each one reads the whole text again
MAX_GAPS = 3  # in a phrase

_ONE_AT_A_TIME = threading.Lock()
_PART = re.compile(r"\([^()]*\)\??|\S+")
_THRICE = re.compile(r"([^\W\d_])\1\1")  # in a text these are read as one or two

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Phrase = Annotated[str, StringConstraints(min_length=2, max_length=600)]
Letter = Annotated[str, StringConstraints(min_length=2, max_length=2000)]
Written = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,24}$")]


class RuleForm(BaseModel):
    """
    One `[[rule]]`: a name for the reviewer, and what it looks for.

    `holds` and `passes` are letters that it must match and must not; nothing but
    the tests of a folder reads them (`examples`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: Name
    phrases: list[Phrase] = Field(default_factory=list, max_length=1000)
    patterns: list[Phrase] = Field(default_factory=list, max_length=MAX_PATTERNS)
    unless: list[Phrase] = Field(default_factory=list, max_length=1000)
    holds: list[Letter] = Field(default_factory=list, max_length=100)
    passes: list[Letter] = Field(default_factory=list, max_length=100)


class WordsForm(BaseModel):
    """A file without a category: lists that every file may name, and spellings."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    words: dict[Name, list[Phrase]] = Field(default_factory=dict)
    small: list[Written] = Field(default_factory=list)  # may stand inside any phrase
    plain: list[Written] = Field(default_factory=list)  # never respelt
    # As it is written, to what it may mean; for words that are also plain English.
    spelt: dict[Written, list[Written]] = Field(default_factory=dict)


class CategoryForm(BaseModel):
    """A rule file: one category, what it does to an item, and its rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    category: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    action: Literal["allow", "hold", "block"]
    severity: int = Field(ge=1, le=5)
    words: dict[Name, list[Phrase]] = Field(default_factory=dict)
    unless: list[Phrase] = Field(default_factory=list, max_length=1000)
    rule: list[RuleForm] = Field(min_length=1, max_length=200)


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
    with _ONE_AT_A_TIME:  # threads that ask together wait for the first
        return _compiled(_Shelf(folder.root, folder.version, pattern, folder))


# Eight: the pipelines and versions that one worker may serve side by side.
@lru_cache(maxsize=8)
def _compiled(shelf: _Shelf) -> Rulebook:
    return compile_rules(shelf.folder.texts(shelf.pattern))


def faults_in(files: Mapping[str, str]) -> Iterator[Usage]:
    """What is wrong with rule files, each by itself, and then with all together."""
    sound: dict[str, str] = {}
    shared = {name: text for name, text in files.items() if _only_words(text)}
    for name, text in files.items():
        try:
            compile_rules(
                {**shared, name: text} if name not in shared else {name: text}
            )
            sound[name] = text
        except Usage as error:
            yield from faults_of(error)
    if sound or not files:
        try:
            compile_rules(sound)
        except Usage as error:
            yield from faults_of(error)


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
    shared: dict[str, Element] = {}
    spelt: dict[str, list[str]] = {}
    small: set[str] = set()
    plain: set[str] = set()
    forms: dict[str, CategoryForm] = {}
    for name, text in files.items():
        form = _parse(name, text)
        if isinstance(form, CategoryForm):
            forms[name] = form
            continue
        for key, entries in form.words.items():
            if key in shared:
                raise _broken(name, f"words.{key}", "another file has this list")
            shared[key] = _element(name, f"words.{key}", entries)
        small.update(form.small)
        plain.update(form.plain)
        for written, meant in form.spelt.items():
            spelt.setdefault(written, []).extend(meant)
    for name, form in forms.items():
        if form.category in categories:
            raise _broken(name, "category", "another file has this category")
        categories[form.category] = Category(form.category, form.action, form.severity)
        trails += _trails(name, form, shared)
        patterns += _patterns(name, form)
    if len(patterns) > MAX_PATTERNS:
        raise _broken("", "patterns", f"more than {MAX_PATTERNS} in all files")
    return _indexed(categories, trails, patterns, spelt, frozenset(small), plain)


def _only_words(text: str) -> bool:
    """Is it a file that others share?"""
    try:
        return not tomllib.loads(text).keys() - {"words", "spelt", "small", "plain"}
    except tomllib.TOMLDecodeError:
        return False


def _indexed(
    categories: Mapping[str, Category],
    trails: Sequence[Trail],
    patterns: Sequence[tuple[re.Pattern[str], str, str]],
    spelt: Mapping[str, Sequence[str]],
    small: frozenset[str],
    plain: Collection[str],
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
        categories,
        tuple(numbered),
        tuple(patterns),
        words,
        tuple(needs),
        heard,
        Speller(words.exact, words.stems, spelt, plain),
        small,
    )


def _broken(name: str, key: str, why: str) -> Usage:
    where = f"{name}: {key}" if key else name or "the rule files"
    return Usage(
        f"{where}: {why}",
        code="RULES_INVALID",
        hint="mend the file; docs/moderation.md shows the form of a rule file",
    )


def _parse(name: str, text: str) -> CategoryForm | WordsForm:
    form = WordsForm if _only_words(text) else CategoryForm
    try:
        return form.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _broken(name, "", f"not valid TOML: {error}") from error
    except ValidationError as error:
        found = misfits_of(error, form)
        raise together([_broken(name, "", misfit.said) for misfit in found]) from error


def _trails(
    name: str, form: CategoryForm, shared: Mapping[str, Element]
) -> Iterator[Trail]:
    """Every phrase and excuse of a file, compiled; its own lists before shared ones."""
    own = {key: _element(name, f"words.{key}", e) for key, e in form.words.items()}
    lists = {**shared, **own}
    groups: list[tuple[str, str, bool, list[str]]] = [("", "unless", True, form.unless)]
    for rule in form.rule:
        key = f"rule.{rule.name}"
        groups.append((rule.name, f"{key}.phrases", False, rule.phrases))
        groups.append((rule.name, f"{key}.unless", True, rule.unless))
    faults = Faults()
    for rule_name, key, excuse, phrases in groups:
        for phrase in phrases:
            with faults.gathered():
                elements = _elements(name, key, phrase, lists)
                yield Trail(elements, form.category, rule_name, excuse)
    faults.end()


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
    if len(elements) == 1:
        elements[0] = replace(elements[0], alone=True)
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
            plain = written.removesuffix("*")
            if not (plain.isascii() and plain.isalpha() and plain.islower()):
                plain = normalise(plain).text
            parts = WORD.findall(plain)
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
            if (why := too_slow(pattern)) is not None:
                raise _broken(name, key, why)
            yield compiled, form.category, rule.name
