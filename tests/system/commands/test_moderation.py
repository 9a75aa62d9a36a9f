"""`waybill moderation`: a lead tries a text, and scores the rules by labelled ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.command import Home

RULES = """
category = "threat"
action = "hold"
severity = 4
[[rule]]
name = "boom"
phrases = ["i (make|build) boom"]
"""
NOTES = """
category = "care"
action = "allow"
severity = 1
[[rule]]
name = "sad"
phrases = ["so sad"]
"""
TEXT = "Dear S,\nI b u i l d boom.\nI am so sad, a@b.org"


@pytest.fixture(scope="module")
def tried(embedded_home: Home) -> Home:
    """A home without a database, and a pipeline with two rules."""
    folder = embedded_home.folder / "small"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "threat.toml").write_text(RULES)
    (folder / "rules" / "care.toml").write_text(NOTES)
    (folder / "pipeline.toml").write_text(
        'name = "small"\ndeadline = "1d"\nstages = ["intake", "ocr", "moderation"]\n'
        "[stage.moderation]\nmax_chars = 200\n"
    )
    embedded_home.environment["WAYBILL_PIPELINES"] = str(folder.parent)
    return embedded_home


def run(home: Home, *words: str | Path):
    return home.run("moderation", *words, "--pipeline", "small")


def test_a_verdict_is_explained(tried: Home, tmp_path: Path):
    """Each rule that matched, its words and their place; a note is no reason."""
    file = tmp_path / "letter.txt"
    file.write_text(TEXT)

    held = run(tried, "test", file, "--json")
    shown = run(tried, "test", file)
    passes = run(tried, "test", "--text", "a bike").err
    long = run(tried, "test", "--text", "a" * 201, "--json").json()

    report = held.json()
    assert (held.code, shown.code) == (0, 0)
    assert (report["outcome"], report["code"]) == ("held", "THREAT")
    boom, sad, mail = report["matches"]
    assert (boom["rule"], boom["action"], boom["severity"]) == (
        "threat/boom",
        "hold",
        4,
    )
    assert (boom["text"], boom["line"], boom["column"]) == ("I b u i l d boom", 2, 1)
    assert TEXT[boom["start"] : boom["end"]] == boom["text"]
    assert (sad["rule"], sad["action"], sad["line"], sad["column"]) == (
        *("care/sad", "allow", 3, 6),
    )
    assert (mail["rule"], mail["action"]) == ("personal_data/email", "allow")
    assert "threat/boom\thold\t4\tI b u i l d boom\tline 2, 1-16" in shown.out
    assert "held THREAT" in shown.err
    assert "No rule matched" in passes
    assert (long["outcome"], long["code"]) == ("held", "TEXT_TOO_LONG")


def test_what_is_no_text_of_ours_is_refused(tried: Home, tmp_path: Path):
    """A document, both ways at once, and a pipeline that does not moderate so."""
    (tmp_path / "letter.rtf").write_text("{\\rtf1 I build boom}")
    own = tried.pipeline("own", moderation="return Advance()")

    refused = {
        "NO_PLAIN_TEXT": run(tried, "test", tmp_path / "letter.rtf", "--json"),
        "NO_SUCH_FILE": run(tried, "test", tmp_path / "none", "--json"),
        "USAGE": run(tried, "test", "--json"),
    }
    other = tried.run("moderation", "test", "--text", "x", "--pipeline", own)

    for code, ran in refused.items():
        assert ran.error() == (2, code)
    assert other.code == 2
    assert "pipelines run moderation" in other.err


def test_labelled_texts_are_scored(tried: Home, tmp_path: Path):
    """Misses are named by line; their words are printed only when asked for."""
    lines = [
        {"text": "I make boom", "label": "care", "kind": "threat"},
        {"text": "I make zorp", "label": "care", "kind": "threat"},
        {"text": "so sad", "label": "innocent"},
        {"text": "so sad", "label": "innocent"},
    ]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    odd = tmp_path / "odd.jsonl"
    odd.write_text(json.dumps({**lines[1], "label": "perhaps"}))

    report = run(tried, "eval", file, "--json").json()
    shown = run(tried, "eval", file)
    told = run(tried, "eval", file, "--show")
    refused = run(tried, "eval", odd)

    assert (report["texts"], report["repeated"]) == (3, 1)
    assert (report["all"]["recall"], report["all"]["innocent_held"]) == (0.5, 0)
    assert [one["line"] for one in report["missed"]] == [2]
    assert "threat\t2\t0\t0.50 (0.09-0.91)" in shown.out
    assert "1, of lines 2" in shown.err
    assert "zorp" not in shown.out + shown.err
    assert "2\tcare\tthreat\t\tI make zorp" in told.out
    assert refused.code == 2
    assert "line 1" in refused.err
    assert "zorp" not in refused.err
