"""
What is wrong with rule files of clauses, every file and all of it.

A file's examples are looked for here, and never where contracts are read: whoever
edits the rules is told which sentence they do not find, and which they must not.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress

from pipeline.errors import Usage
from pipeline.faults import faults_of
from stages.clauses.reading import read_clause, sections_of
from stages.clauses.rulebook import ClauseRules, load_types, read_file

SHOWN_CHARS = 90  # of an example, to find it in its file


def faults_in(files: Mapping[str, str]) -> Iterator[Usage]:
    """
    Each fault of a folder's rule files, in the files' order.

    Args:
        files: The text of each TOML file, by its name.
    """
    try:
        load_types(files)
    except Usage as error:
        yield from faults_of(error)
    for name in sorted(files):
        with suppress(Usage):  # said above
            rules = read_file(name, files[name])
            yield from list(rules.phrase_faults()) or unmet(rules)


def unmet(rules: ClauseRules) -> Iterator[Usage]:
    """The examples of a file that its rules do not find, or find and must not."""
    # Of some types rules can only say that a person should look.
    wanted = "unclear" if rules.form.trust == "none" else "present"
    for number, text in enumerate(rules.form.examples.yes):
        verdict = read_clause(rules, text, sections_of(text)).verdict
        if verdict != wanted:
            why = f"the rules make it {verdict} and not {wanted}"
            yield _example(rules, f"yes.{number}", why, text)
    for number, text in enumerate(rules.form.examples.no):
        if read_clause(rules, text, sections_of(text)).verdict == "present":
            why = "the rules find it, and must not"
            yield _example(rules, f"no.{number}", why, text)


def _example(rules: ClauseRules, key: str, why: str, text: str) -> Usage:
    shown = textwrap.shorten(text, SHOWN_CHARS, placeholder=" …")
    return Usage(
        f"{rules.file}: examples.{key}: {why}: {shown!r}",
        code="RULES_EXAMPLE",
        hint="mend headings, under, says or never, or the example",
    )
