"""`examples/contracts`: its supervisor, its readers, its products, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Permanent
from pipeline.folder import Pipeline, load
from pipeline.messages import ModelRequest, Said, ToolCall
from pipeline.model import Kin, State
from pipeline.stage import Advance, Hold
from pipeline.state import encode
from pipeline.testing import Context, Try
from stages.abstracts import reading
from stages.abstracts.forms import Clause, structure_of
from tests.unit.abstracts.made import TEXT, absent, clauses, quoted, structure
from waybill.compose import BUILTIN

CONTRACTS = Path(__file__).parents[3] / "examples" / "contracts"


@pytest.fixture(scope="module")
def contracts() -> Pipeline:
    return load(CONTRACTS, BUILTIN)


async def context(contracts: Pipeline, stage: str, **more: Any) -> tuple[Context, Any]:
    """A stage of the example, and a contract as it comes to it."""
    ctx = Context(contracts.stages[stage], pipeline=contracts, **more)
    text = await ctx.artifacts.put(TEXT.encode())
    data = structure(text).model_dump_json(exclude_defaults=True).encode()
    kept = await ctx.artifacts.put(data)
    state = contracts.channels.model
    return ctx, state(source="0" * 64, text=TEXT, structure=kept, page_count=2)


def kin(found: dict[str, Clause], *failed: str) -> list[Kin]:
    """Children, each with what it found."""
    ended = []
    for number, (name, clause) in enumerate(found.items(), 1001):
        said = {"found": clause.model_dump(mode="json"), "model": "none"}
        values: dict[str, Any] = {"source": "0" * 64, **said}
        state, code = (State.DONE, "")
        if name in failed:
            values, state, code = {}, State.FAILED, "AGENT_BUDGET"
        ended.append(Kin(number, name, state, "clause", code, values))
    return ended


def test_what_is_taken_apart_names_its_text(
    contracts: Pipeline, tmp_path: Path
) -> None:
    """As a store on disk knows it, whose paths are no names: a model reads it."""
    kept = FileArtifacts(tmp_path)
    ctx = Context(contracts.stages["sections"], pipeline=contracts, artifacts=kept)
    state = contracts.channels.model(source="0" * 64, text=TEXT, page_count=2)

    # In real time: a thread reads by every rule, and virtual hours would pass.
    tried = anyio.run(ctx.run, state)

    assert isinstance(tried.outcome, Advance), tried
    structure = structure_of(anyio.run(kept.get, tried.state.structure))
    assert anyio.run(kept.get, structure.text) == TEXT.encode()


# -- the supervisor -------------------------------------------------------------------


async def test_a_child_for_each_type_is_made_and_waited_for(contracts: Pipeline):
    """They carry names of artifacts, never the text."""
    ctx, contract = await context(contracts, "clauses", kin=None, branches=["clause"])

    tried = await ctx.run(contract)

    assert tried.joins
    parts = ctx.spawned["parts"]
    assert [part.name for part in parts] == list(clauses())
    assert all(len(encode(part.input)) < 1000 for part in parts)
    assert all(TEXT not in encode(part.input) for part in parts)


async def test_what_readers_found_is_brought_together(contracts: Pipeline):
    ctx, contract = await context(contracts, "clauses", kin=kin(clauses()))

    tried = await ctx.run(contract)

    assert isinstance(tried.outcome, Advance), tried
    assert tried.state.clauses == clauses()
    assert (tried.state.model, tried.state.gaps) == ("none", [])


async def test_a_part_that_failed_is_a_gap_with_its_name(contracts: Pipeline):
    """The others stand; nothing is guessed in its place."""
    found = kin(clauses(), "fees")
    ctx, contract = await context(contracts, "clauses", kin=found)

    tried = await ctx.run(contract)

    assert "fees" not in tried.state.clauses
    assert [gap.model_dump() for gap in tried.state.gaps] == [
        {"type": "fees", "why": "AGENT_BUDGET", "required": False}
    ]


async def test_a_gap_that_is_required_holds(contracts: Pipeline):
    found = kin(clauses(), "governing_law")
    ctx, contract = await context(contracts, "clauses", kin=found)

    tried = await ctx.run(contract)

    assert tried.error is not None
    assert tried.error.code == "PART_MISSING"
    assert "governing_law" in tried.error.message


# -- checks and the lawyer's hold -----------------------------------------------------


async def found_so(contracts: Pipeline, rulings: Any = None, **others: Clause) -> Try:
    """What `checks` makes of these clauses, and of what a person said."""
    ctx, contract = await context(contracts, "checks")
    given = {"clauses": clauses(**others), "rulings": rulings or {}}
    return await ctx.run(contract.model_copy(update=given))


async def test_a_doubt_is_held_with_its_quote_and_its_page(contracts: Pipeline):
    unclear = quoted("governing_law", "The laws of Ohio govern it.").model_copy(
        update={"verdict": "unclear", "confidence": 0.4}
    )

    hold = (await found_so(contracts, governing_law=unclear)).outcome

    assert isinstance(hold, Hold)
    assert (hold.code, hold.ask) == ("CLAUSES_DOUBTFUL", ("rulings",))
    assert "Ohio" not in hold.why
    [doubt] = hold.evidence["doubts"]
    [quote] = doubt["quotes"]
    start, end = quote["marked"]
    assert (doubt["rule_on"], quote["page"]) == ("governing_law", 2)
    assert quote["text"][start:end] == "The laws of Ohio govern it."
    assert hold.evidence["pages"] == [{"number": 2}]


async def test_an_answer_brings_it_on(contracts: Pipeline):
    answer = {"action": "missed", "quote": "laws of Ohio", "by": "a reviewer"}
    lawless = absent("governing_law")

    tried = await found_so(contracts, {"governing_law": answer}, governing_law=lawless)

    assert isinstance(tried.outcome, Advance)
    law = tried.state.clauses["governing_law"]
    assert (law.verdict, law.decision.by) == ("present", "a reviewer")
    assert {check.ok for check in tried.state.checks} == {True}


async def test_a_refused_answer_is_asked_again_with_the_reason(contracts: Pipeline):
    answer = {"action": "missed", "quote": "laws of Spain"}
    lawless = absent("governing_law")

    tried = await found_so(contracts, {"governing_law": answer}, governing_law=lawless)

    assert isinstance(tried.outcome, Hold)
    assert "nowhere" in tried.outcome.evidence["refused"]["governing_law"]


# -- one reader -----------------------------------------------------------------------


async def read(contracts: Pipeline, name: str, *said: Said) -> tuple[Context, Any]:
    """What a child finds that reads one type; with a model that says this, if any."""
    answers = list(said)

    def model(asked: ModelRequest) -> Said:
        return answers.pop(0)

    ctx, contract = await context(
        contracts, "clause", models={"reader": model} if said else {}
    )
    stage = contracts.stages["clause"].stage
    given = {"clause": name, "found": clauses()[name]}
    outcome = await stage(contract.model_copy(update=given), ctx)
    assert isinstance(outcome, Advance)
    return ctx, SimpleNamespace(**{**given, **outcome.updates})


def answer(verdict: str, *quotes: tuple[str, str]) -> Said:
    found = [{"section": section, "text": text} for section, text in quotes]
    return Said(text=json.dumps({"verdict": verdict, "quotes": found}))


LOOK = Said(
    calls=(ToolCall(id="", name="read_section", arguments='{"section": "s4"}'),)
)
LAW = ("s4", "The laws of Ohio\ngovern it.")


async def test_without_a_model_rules_read_alone_and_say_so(contracts: Pipeline):
    ctx, child = await read(contracts, "governing_law")

    assert child.model == "none"
    assert child.found == clauses()["governing_law"]
    assert ctx.ran == []


async def test_a_model_that_agrees_makes_it_surer(contracts: Pipeline):
    """It reads a section by its name, and quotes it word for word."""
    ctx, child = await read(contracts, "governing_law", LOOK, answer("present", LAW))

    found = child.found
    assert (found.verdict, found.confidence) == ("present", 0.97)
    assert found.quotes[0].readers == ("heading", "words", "model")
    assert child.model == "reader"
    said = [step for step in ctx.ran if step != "read/ended"]
    assert said == ["read/ask-1", "read/call-1.1:read_section", "read/ask-2"]


async def test_an_invented_quote_is_asked_for_again(contracts: Pipeline):
    """In the section it names, or nowhere: the answer does not pass."""
    bad = answer("present", ("s2", "The laws of Ohio govern it."))
    good = answer("absent")

    ctx, child = await read(contracts, "governing_law", bad, LOOK, good)

    found = child.found
    assert (found.verdict, found.disputed) == ("unclear", True)
    assert ctx.ran[:2] == ["read/ask-1", "read/ask-2"]


async def test_a_word_is_no_evidence(contracts: Pipeline):
    """`the` stands in every section."""
    weak, good = answer("present", ("s4", "The")), answer("present", LAW)

    ctx, child = await read(contracts, "governing_law", weak, good)

    assert child.found.verdict == "present"
    assert ctx.ran[:2] == ["read/ask-1", "read/ask-2"]


async def test_who_read_nothing_does_not_know_that_it_is_not_there(
    contracts: Pipeline,
):
    """Headings alone prove nothing: a person looks where rules found nothing either."""
    _, blind = await read(contracts, "audit_rights", answer("absent"))
    _, seen = await read(contracts, "audit_rights", LOOK, answer("absent"))

    assert (blind.found.verdict, blind.found.confidence) == ("unclear", 0.4)
    assert (seen.found.verdict, seen.found.confidence) == ("absent", 0.97)


async def test_a_model_that_is_not_sure_leaves_nothing_absent(contracts: Pipeline):
    """It was told that a lawyer decides then; what rules have found stands."""
    _, doubted = await read(contracts, "audit_rights", answer("unclear"))
    _, found = await read(contracts, "governing_law", answer("unclear"))

    assert (doubted.found.verdict, doubted.found.confidence) == ("unclear", 0.4)
    assert found.found.verdict == "present"
    held = await found_so(contracts, audit_rights=doubted.found)
    assert "the model is not sure" in held.outcome.evidence["doubts"][0]["why"]


async def test_a_model_that_gives_no_answer_leaves_a_gap(contracts: Pipeline):
    bad = answer("present", ("s2", "It says nothing of the kind."))

    with pytest.raises(Permanent) as raised:
        await read(contracts, "governing_law", bad, bad, bad)

    assert raised.value.code == "AGENT_FAULTS"
    assert "nothing of the kind" not in raised.value.message


# -- a contract taken apart -----------------------------------------------------------


def test_a_structure_names_its_text_as_it_is_kept(
    contracts: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the jail the text is a file of another name; a model's reader looks it up."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    text, rules = tmp_path / "0.in", tmp_path / "1.in"
    text.write_text(TEXT, encoding="utf-8")
    law = contracts.folder.texts("rules/governing_law.toml")
    rules.write_text(json.dumps(law), encoding="utf-8")

    reading.read(str(text), str(rules), name="a" * 64)

    made = structure_of((tmp_path / reading.STRUCTURE).read_bytes())
    assert made.text == "a" * 64
