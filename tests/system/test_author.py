"""
A new pipeline, as docs/pipelines.md says: written, tested, tried, mended.

The files and the commands are those of the page itself, so that it cannot drift.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.command import ROOT, Home, Ran, eventually

PAGE = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
MANY = 50
GOOD = "text.lower().split()"
BUG = "text.lower().splits()"


def documented() -> dict[str, str]:
    """The files of the page's new pipeline, by their names."""
    blocks = re.findall(r"```(?:python|toml)\n# slips/(\S+)\n(.*?)```", PAGE, re.DOTALL)
    return dict(blocks)


def commands() -> list[list[str]]:
    """What the page tells an author to type, in order."""
    _, _, section = PAGE.partition("## A new one, from nothing")
    section, _, _ = section.partition("\n## ")
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("waybill ")]


def by_heart(home: Home, *verbs: str) -> Ran:
    """The page's command of these verbs."""
    [command] = [c for c in commands() if c[: len(verbs)] == list(verbs)]
    return home.run(*command)


@pytest.fixture
def author(home: Home) -> Home:
    """A home with the documented pipeline, and documents to try it on."""
    folder = home.pipelines / "slips"
    folder.mkdir(parents=True)
    for name, text in documented().items():
        (folder / name).write_text(text, encoding="utf-8")
    home.environment["WAYBILL_PIPELINES"] = str(home.pipelines)
    (home.folder / "letters").mkdir()
    for number in range(MANY):
        path = home.folder / "letters" / f"{number}.txt"
        path.write_text(f"letter {number} to the secret aunt of letter {number}\n")
    (home.folder / "letter.txt").write_text("one secret letter")
    return home


def test_the_documented_tests_pass(author: Home) -> None:
    """A stage is tested without the service, as the page says."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        check=False,
        cwd=author.pipelines / "slips",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert ran.returncode == 0, ran.stdout
    assert "passed" in ran.stdout


def test_a_bug_is_found_mended_and_its_items_are_brought_on(author: Home) -> None:
    """From what is shown alone; one command, and what was finished stays finished."""
    source = author.pipelines / "slips" / "count.py"
    good = source.read_text()
    source.write_text(good.replace(GOOD, BUG))
    line = 1 + good[: good.index(GOOD)].count("\n")
    place = f"count.py:{line} in words_of"

    ingested = by_heart(author, "ingest")
    failed = by_heart(author, "items", "ls")
    why = by_heart(author, "items", "why")
    tried = by_heart(author, "pipelines", "run")

    assert ingested.code == 4, ingested
    assert author.ends() == {"failed": MANY}
    assert failed.out.count("STAGE_RAISED") == MANY
    for shown in (why.out, author.run("items", "show", "1").out):
        assert "AttributeError" in shown
        assert place in shown
        assert "secret" not in shown.replace("secret letter", "")
    # On the author's own terminal, as Python shows it.
    assert f'count.py", line {line}, in words_of' in tried.err
    assert "AttributeError" in tried.err
    assert tried.code == 4
    assert author.one("select count(*) from receipts") == MANY

    source.write_text(good)
    assert by_heart(author, "pipelines", "run").code == 0
    looked = author.one("select max(id) from attempts")
    with author.started("worker"):
        brought = by_heart(author, "items", "retry")
        done = eventually(lambda: author.ends().get("done") == MANY, within_s=60)

    assert brought.code == 0, brought
    assert brought.out.count("ready") == MANY
    assert done, author.ends()
    assert author.one("select max(id) from attempts") == looked
    assert author.one("select count(*) from checkpoints where stage = 'intake'") == MANY
    assert author.one("select count(distinct pipeline_id) from items") == 1
    out = Path(author.folder, "out", "default", "first")
    assert sorted(p.name for p in out.glob("[0-9]*.txt")) == sorted(
        f"{n}.txt" for n in range(1, MANY + 1)
    )
    named = "select count(*) from products where facts->>'file' = item_id || '.txt'"
    assert author.one(named) == MANY
    again = by_heart(author, "items", "retry")
    assert "ready" not in again.out
