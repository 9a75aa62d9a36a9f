"""
Writing without a model: templates of the pipeline folder, filled with the few facts
that a letter surely says.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import Usage
from stages.writing.facts import facts_in
from stages.writing.reply import Written, faults


class Passage(BaseModel):
    """
    A paragraph of a template file, in variants.

    It is used when every flag in `when` is raised and none in `unless`, and left
    out when no variant has all its fields.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    name: str
    variants: Annotated[list[str], Field(min_length=1)]
    when: list[str] = Field(default_factory=list)
    unless: list[str] = Field(default_factory=list)


class Templates(BaseModel):
    """`templates/reply.toml`: greeting and closing, and paragraphs in their order; of a
    hard letter `closing_hard`, where there is one."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    greeting: Annotated[list[str], Field(min_length=1)]
    closing: Annotated[list[str], Field(min_length=1)]
    closing_hard: list[str] = Field(default_factory=list)
    paragraph: Annotated[list[Passage], Field(min_length=1)]


FIELDS = frozenset({"name", "age", "wish", "wishes", "pet", "sibling"})
FLAGS = frozenset({"hard"})
_FIELD = re.compile(r"\{([A-Za-z]{1,20})\}")


def write(
    templates: Templates, text: str, seed: str, where: str, *, hard: bool = False
) -> Written:
    """
    Fill `templates` with what a letter surely says.

    The same seed always gives the same reply; different ones differ.  `hard` raises
    that flag whatever the letter says: moderation noted a grief, a need or a fear.

    Raises:
        Usage: TEMPLATE_INVALID; `where` names the file.
    """
    known, flags = facts_in(text)
    if hard:
        flags = flags | {"hard"}
    closing = templates.closing
    if "hard" in flags and templates.closing_hard:
        closing = templates.closing_hard
    paragraphs = [
        filled
        for passage in templates.paragraph
        if flags.issuperset(passage.when) and flags.isdisjoint(passage.unless)
        if (filled := fill(passage.variants, known, f"{seed}:{passage.name}"))
    ]
    try:
        return Written(
            greeting=fill(templates.greeting, known, f"{seed}:greeting"),
            paragraphs=paragraphs,
            closing=fill(closing, known, f"{seed}:closing"),
        )
    except ValidationError as error:
        raise _bad_template(where, faults(error)) from None


def read_templates(text: str, where: str) -> Templates:
    """
    Parse and check a template file; `where` names it in the error.

    Raises:
        Usage: TEMPLATE_INVALID.
    """
    try:
        templates = Templates.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _bad_template(where, str(error)) from None
    except ValidationError as error:
        raise _bad_template(where, faults(error)) from None
    variants = [*templates.greeting, *templates.closing, *templates.closing_hard]
    for passage in templates.paragraph:
        variants += passage.variants
        if unknown := {*passage.when, *passage.unless} - FLAGS:
            raise _bad_template(where, f"unknown flag {min(unknown)}")
    for variant in variants:
        if unknown := {f.lower() for f in _FIELD.findall(variant)} - FIELDS:
            raise _bad_template(where, f"unknown field {{{min(unknown)}}}")
    return templates


def fill(variants: Sequence[str], known: Mapping[str, str], seed: str) -> str:
    """
    One variant with its fields filled in; "" when each lacks a field.

    Of the variants whose fields are all known those with the most fields win: a
    reply that shows it was read is the better one.  `seed` chooses among them.
    `{Name}` is `{name}` with a capital.  What is filled in is never read again.
    """
    fields = {
        variant: {field.lower() for field in _FIELD.findall(variant)}
        for variant in variants
    }
    fitting = [variant for variant in variants if fields[variant] <= known.keys()]
    if not fitting:
        return ""
    most = max(len(fields[variant]) for variant in fitting)
    best = [variant for variant in fitting if len(fields[variant]) == most]
    digest = hashlib.sha256(seed.encode("utf-8", "replace")).digest()
    chosen = best[int.from_bytes(digest[:8], "big") % len(best)]

    def value(match: re.Match[str]) -> str:
        text = known[match[1].lower()]
        return text[0].upper() + text[1:] if match[1][0].isupper() else text

    return _FIELD.sub(value, chosen.strip())


def _bad_template(where: str, what: str) -> Usage:
    return Usage(
        f"{where}: {what}",
        code="TEMPLATE_INVALID",
        hint=f"mend {where} in the pipeline folder",
    )
