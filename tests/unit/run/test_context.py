"""What a stage asks its context for: work in the jail, and its tenant's secrets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Usage
from pipeline.model import Advance
from tests.unit.engine import Engine, Letter, Tape


def shout(text: str) -> str:
    """What a jailed process would do."""
    return text.upper()


def leave(text: str) -> tuple[str, dict[str, bytes]]:
    """An answer, and the files that a jailed process leaves."""
    return text, {"page-1.png": text.encode()}


async def test_jailed_calls_name_pool_owner_and_time() -> None:
    """Slots are shared by owner; nobody gets longer than is left."""
    tape = Tape()

    async def run(letter: Letter, ctx: Any) -> Any:
        said = await ctx.jailed(shout, pool="second", timeout_s=5.0, text="a")
        said += await ctx.jailed(shout, timeout_s=1e9, text="b")
        answer, files = await ctx.jailed_files(leave, text="c")
        kept = await ctx.artifacts.get(files["page-1.png"])
        return Advance(answer=said + answer + kept.decode())

    engine = Engine([tape.station("unpack", run, timeout_s=60)])
    [item] = await engine.submit()

    async with engine.session():
        await engine.finish([item])

    assert (await engine.letter(item)).answer == "ABcc"
    assert engine.jail.asked == [("second", item), ("", item), ("", item)]
    assert engine.jail.timeouts[0] == 5.0
    assert all(t <= 60 for t in engine.jail.timeouts)


async def test_the_output_folder_is_there(tmp_path: Path) -> None:
    """A stage writes its file without making a folder first; it stays."""

    async def run(letter: Letter, ctx: Any) -> Any:
        (ctx.out_dir / f"{ctx.item.id}.txt").write_text("finished")
        return Advance()

    engine = Engine([Tape().station("write", run)])
    engine.services = replace(engine.services, out=tmp_path / "none" / "yet")
    [item] = await engine.submit(batch="2026/may")
    async with engine.session():
        await engine.finish([item])

    assert await engine.state(item) == "done"
    written = tmp_path / "none" / "yet" / "north" / "2026/may" / f"{item}.txt"
    assert written.read_text() == "finished"


async def secrets(tmp_path: Path, name: str, *, tenant: str = "north") -> Any:
    """What a stage is told, or the code that it failed with."""
    told: list[list[str]] = []

    async def run(letter: Letter, ctx: Any) -> Any:
        told.append(ctx.secrets(name))
        return Advance()

    engine = Engine([Tape().station("unpack", run)])
    engine.services = replace(engine.services, secrets=tmp_path)
    [item] = await engine.submit(tenant=tenant)
    async with engine.session():
        await engine.finish([item])
    return told[0] if told else await engine.code(item)


async def test_secrets_are_the_tenants_own(tmp_path: Path) -> None:
    """A line each; of another tenant, or of none, there are none."""
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "pdf-passwords.txt").write_text("one\n two \n\nthree")

    assert await secrets(tmp_path, "pdf-passwords") == ["one", " two ", "three"]
    assert await secrets(tmp_path, "pdf-passwords", tenant="south") == []
    assert await secrets(tmp_path, "others") == []
    assert await secrets(tmp_path / "missing", "pdf-passwords") == []


@pytest.mark.parametrize("name", ["", "../north/x", "a/b", ".hidden", "a\\b"])
async def test_secrets_do_not_lead_out_of_their_folder(
    tmp_path: Path, name: str
) -> None:
    """A name is a name, not a way."""
    assert await secrets(tmp_path, name) == "BAD_NAME"


async def test_a_tenants_name_is_no_way_out_either(tmp_path: Path) -> None:
    """Nor is a hidden folder a tenant's."""
    (tmp_path / ".north").mkdir()
    (tmp_path / ".north" / "x.txt").write_text("hidden")

    with pytest.raises(Usage):
        await secrets(tmp_path, "x", tenant=".north")
