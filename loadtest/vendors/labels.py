"""
What a reader of the simulated world knows beforehand: the labels of documents.

A file of lines, one a document, in the form of the contracts that people labelled:

    {"id": "deal-7", "clauses": {"Term": {"spans": ["for a year"], "answer": "1 year"}}}

A type with no spans is not in the document.  What is read in pictures, what a
moderation service flags in texts, and what a model thinks of them stand in files of
their own, by digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

FILES_KEPT = 8
DIGEST = 32  # of a sha256, as the book writes one
# How a question names what it asks about, each on a line of its own.
ASKED = re.compile(r"^(document|clause): (.+?)\s*$", re.MULTILINE)
TITLED = re.compile(r"([^:\n]+): ")  # or it begins with the title of a type


class Label(NamedTuple):
    """What stands in a document of one type: word for word, and its value."""

    spans: tuple[str, ...] = ()
    value: str = ""


class Topic(NamedTuple):
    """What a question is about; `document` "": it does not say."""

    document: str
    clause: str


@lru_cache(maxsize=FILES_KEPT)
def read_labels(path: str) -> Mapping[Topic, Label]:
    """The labels of a file, by document and type."""
    found: dict[Topic, Label] = {}
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            for clause, label in one["clauses"].items():
                spans = tuple(label.get("spans") or ())
                topic = Topic(one["id"], clause)
                found[topic] = Label(spans, str(label.get("answer") or ""))
    return found


def labelled(path: str, topic: Topic) -> Label:
    """
    What stands in a file of a topic.

    Where the document is not named it is what stands in any: one is told from others
    by whose words it has.
    """
    if topic.document:
        return read_labels(path).get(topic, Label())
    return _of_any(path).get(topic.clause, Label())


@lru_cache(maxsize=FILES_KEPT)
def _of_any(path: str) -> Mapping[str, Label]:
    found: dict[str, dict[str, None]] = {}
    for topic, label in read_labels(path).items():
        found.setdefault(topic.clause, {}).update(dict.fromkeys(label.spans))
    return {clause: Label(tuple(spans)) for clause, spans in found.items()}


@lru_cache(maxsize=FILES_KEPT)
def read_texts(path: str) -> Mapping[str, tuple[str, float]]:
    """Text and confidence of pictures, by the book's digest of their bytes."""
    found: dict[str, tuple[str, float]] = {}
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            sure = float(one.get("confidence", 1))
            found[one["sha256"][:DIGEST]] = (one["text"], sure)
    return found


@lru_cache(maxsize=FILES_KEPT)
def read_flags(path: str) -> Mapping[str, Sequence[str]]:
    """The categories that are flagged in texts, by the digest of their UTF-8."""
    with Path(path).open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return {one["sha256"][:DIGEST]: one["categories"] for one in found}


@lru_cache(maxsize=FILES_KEPT)
def read_opinions(path: str) -> Mapping[str, Sequence[Any]]:
    """What a model says of texts, ask by ask, by the digest of their UTF-8."""
    with Path(path).open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return {one["sha256"][:DIGEST]: one["says"] for one in found}


def topic_of(texts: Iterable[str]) -> Topic:
    """What is asked about, by the first lines that say so; "" where none does."""
    said: dict[str, str] = {}
    titles = []
    for text in texts:
        for word, name in ASKED.findall(text):
            said.setdefault(word, name)
        if titled := TITLED.match(text):
            titles.append(titled[1])
    if not said:
        return Topic("", next(iter(titles), ""))
    return Topic(said.get("document", ""), said.get("clause", ""))


def as_it_stands(span: str, text: str) -> str:
    """A labelled span as a text has it, with its own breaks of lines; "" if nowhere."""
    if span in text:
        return span
    words = [re.escape(word) for word in span.split()]
    found = re.search(r"\s+".join(words), text) if words else None
    return found[0] if found else ""
