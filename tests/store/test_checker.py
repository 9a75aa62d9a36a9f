"""
The load test's checker: it finds nothing where all is well, and names what is broken.

Each promise is broken by hand, as no version of the store would let anybody.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run as run_program
from typing import Any

import anyio
import asyncpg
import pytest

from loadtest.checker.__main__ import main
from loadtest.checker.checks import Found
from loadtest.checker.looking import EVERY_CHECK, Checker
from loadtest.checker.memory import Memory
from loadtest.vendors.book import Book, Row, Taken
from loadtest.vendors.book import now as book_now
from pipeline.model import Entry, State, Submission
from pipeline.outbox import EffectState, Planned, SinkClass
from pipeline.store.effects import Room, Settlement
from tests.store.conftest import Urls
from tests.store.world import World, done, finished, parked, step

PAPER, MAIL = "print", "mail"
LATER_S = 86_400.0
LEASE_S = 3600.0  # on a busy machine the test must not lose it


class Run:
    """A run of three tenants' few items, of which all kinds of ends are seen."""

    def __init__(self, folder: Path, world: World, url: str) -> None:
        self.folder = folder
        self.world = world
        self.url = url
        self.lines: list[dict[str, Any]] = []
        self.ids: dict[str, int] = {}
        self.book = Book(folder / "vendors.sqlite")
        self.memory = Memory(folder)

    @property
    def checker(self) -> Checker:
        return Checker(
            self.folder, self.url, [self.book.path], self.memory, lambda _: None
        )

    def submit(self, name: str, tenant: str, expect: str, **more: Any) -> Submission:
        """One line of the list, and what is dropped."""
        key = (name[0] * 64)[:64]
        line = {
            "at": book_now(),
            "tenant": tenant,
            "batch": "may",
            "pipeline": "letters",
            "name": name,
            "sha256": key,
            "deadline": book_now() + LATER_S,
            "urgent": False,
            "expect": expect,
        }
        self.lines.append(line | more)
        with (self.folder / "submitted.jsonl").open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")
        return Submission(name, key, f"token of {tenant}/{name}", 10)

    async def receive(self, *wanted: tuple[str, str, str], **more: Any) -> None:
        """Files of a tenant that are to end so, and their items."""
        for name, tenant, expect in wanted:
            sent = self.submit(name, tenant, expect, **more)
            batch = await self.world.batch("may", tenant=tenant, deadline_s=LATER_S)
            [receipt] = await self.world.receive(sent, batch=batch)
            self.ids[name] = receipt.item_id

    def take(self, key: str, body: bytes = b"page", *, tenant: str = "") -> None:
        """A vendor did something, by its own book."""
        row = Row(
            *(book_now(), PAPER, "batch", "POST", "/print", "", tenant),
            *("", key, "", 4),
            *("accepted", "", 201, 0, 0, 0),
        )
        self.book.write(row, [Taken("batch", key, body)])
        self.book.settle()

    async def look(self) -> dict[str, Found]:
        return await self.checker.safety()

    async def broken(self) -> dict[str, Found]:
        """What the last look finds broken, by the name of its check."""
        found = await self.checker.all(60)
        return {name: one for name, one in found.items() if one.violations}


def effect(key: str, of: SinkClass = SinkClass.C) -> Planned:
    return Planned("write", "print", PAPER, key, of, '{"to": "a"}', None, "{}", True)


async def through(run: Run, worker: Any, name: str, *effects: Planned) -> None:
    """From the first stage to the end."""
    item, commit = run.ids[name], run.world.store.commit
    await commit(worker, [Entry(item, step(0, "read", "page-1"))])
    await commit(worker, [Entry(item, finished(1, "read", "judge"))])
    await commit(worker, [Entry(item, finished(2, "judge", "write"))])
    last = Entry(item, finished(3, "write", ""), done("write"), effects=effects)
    assert await commit(worker, [last]) == [True]


async def played(run: Run) -> None:
    """Done, held and decided, still held, failed, rejected, killed, cancelled."""
    store, world = run.world.store, run.world
    await run.receive(
        *(("a", "acme", "done"), ("b", "acme", "done"), ("c", "acme", "held")),
        *(("d", "acme", "failed"), ("e", "beta", "done"), ("f", "beta", "done")),
        *(("g", "beta", "any"), ("i", "beta", "any")),
    )
    await run.receive(("h", "beta", "done"), urgent=True)
    await run.receive(("a2", "acme", "done"))  # the same bytes: no item of its own

    worker = await world.join(lease_s=LEASE_S)
    assert len(await world.claim(worker)) == 9
    await run.look()
    await through(run, worker, "a", effect("k-a"))
    for name in "bc":
        await store.commit(
            worker,
            [
                Entry(
                    run.ids[name],
                    finished(0, "read", "judge"),
                    parked(1, stage="judge", after="write"),
                )
            ],
        )
    failed = [
        Entry(run.ids["d"], None, replace(done(), state=State.FAILED, code="BAD"))
    ]
    assert await store.commit(worker, failed) == [True]
    refused = replace(done("read"), state=State.REJECTED, code="BLANK")
    blank = Entry(run.ids["i"], finished(0, "read", ""), refused)
    assert await store.commit(worker, [blank]) == [True]
    await through(run, worker, "e", effect("k-e"))
    await store.cancel([run.ids["g"]], "ann")
    await store.reap([worker], died=True)
    await run.look()

    # Where it was left, by another one.
    other = await world.join(lease_s=LEASE_S)
    await world.claim(other, 1)
    await world.claim(other, 10)
    await through(run, other, "f")
    await through(run, other, "h")
    hold = await store.hold_of(run.ids["b"])
    await world.decide(hold)
    await world.claim(other, 1, stage="write")
    last = Entry(run.ids["b"], finished(2, "write", ""), done("write"))
    assert await store.commit(other, [last]) == [True]

    rooms = [Room(PAPER, SinkClass.C, 10), Room(MAIL, SinkClass.A, 10)]
    for row in await store.take_effects(other, rooms):
        run.take(row.key, tenant=row.tenant)
        told = Settlement(row.id, EffectState.CONFIRMED, None, None, "")
        assert await store.settle_effects(other, [told]) == [True]
    await run.look()
    await store.leave(other)


@pytest.fixture
async def run(postgres: World, shared: Urls, tmp_path: Path) -> Any:
    run = Run(tmp_path, postgres, shared.app)
    await played(run)
    yield run
    run.book.close()
    run.memory.close()


async def test_a_run_that_kept_its_promises_has_no_violation(run: Run) -> None:
    """Every check has its turn, and most of them something to look at."""
    found = await run.checker.all(60)

    assert {name: one for name, one in found.items() if one.violations} == {}
    assert set(found) == {check.name for check in EVERY_CHECK}
    nothing = {name for name, one in found.items() if not one.checked}
    assert nothing == {"one-owner", "no-leftovers", "expired-ended"}


BREAKS = {
    "a lost row": ("delete from waybill.ready; delete from waybill.outcomes"
                   " where item_id = {a}", {"one-place": "I1", "kept": "I2"}),
    "a lost receipt": ("delete from waybill.receipts where item_id = {h}",
                       {"none-lost": "I1", "one-receipt": "I1", "kept": "I2"}),
    "an item in two places": (
        "insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)"
        " select id, 'read', tenant_id, deadline_at, 4 from waybill.items"
        " where id = {a}", {"one-place": "I1", "all-ended": "I22"}),
    "a tally that lies": ("update waybill.tally_changes set n = n + 1 where state ="
                          " 'done'", {"tallies": "I1"}),
    "an invented item": ("update waybill.items set parent_id = null; insert into"
        " waybill.receipts (batch_id, token, name, key, size_bytes, disposal, item_id)"
        " select batch_id, 'x', 'x', 'xx', 1, 'duplicate', item_id from"
        " waybill.receipts where item_id = {a} limit 1", {"none-invented": "I1",
                                                         "same-bytes": "I24"}),
    "a gap": ("delete from waybill.checkpoints where item_id = {a} and seq = 1",
              {"no-gaps": "I3", "legal-path": "I3", "same": "I9"}),
    "a stage passed over": ("update waybill.checkpoints set stage = 'write' where"
        " item_id = {a} and seq = 2", {"legal-path": "I3", "same": "I9",
                                       "stage-once": "I9"}),
    "done before the end": ("delete from waybill.checkpoints where item_id = {a} and"
                            " seq = 3", {"done-at-last": "I3", "same": "I9"}),
    "at work with nobody": (
        "insert into waybill.running (item_id, stage, tenant_id, deadline_at, seq,"
        " attempt, strikes, solo, worker_id) select id, 'read', tenant_id, deadline_at,"
        " 0, 0, 0, false, gen_random_uuid() from waybill.items where id = {c}",
        {"one-place": "I1", "one-owner": "I4", "held-is-free": "I13"}),
    "a write of the dead": ("insert into waybill.checkpoints (item_id, seq, stage,"
        " step, update, took_s, worker_id, at) select {h}, 4, 'write', 'more', '1', 0,"
        " code::uuid, at + interval '11 seconds' from waybill.audit where event ="
        " 'worker_died' limit 1", {"dead-write": "I5", "fenced": "I5"}),
    "a result written twice": ("insert into waybill.checkpoints (item_id, seq, stage,"
        " step, update, took_s) values ({c}, 1, 'judge', 'ask', '1', 0),"
        " ({c}, 2, 'judge', 'ask', '2', 0)", {"step-once": "I9"}),
    "another result": ("update waybill.checkpoints set update = '7' where item_id ="
                       " {e} and seq = 0", {"same": "I9"}),
    "an effect left behind": ("update waybill.effects set state = 'planned'",
                              {"no-lost-effect": "I8"}),
    "begun too late": ("update waybill.items set deadline_at = now() - interval"
                       " '1 hour' where id = {a}", {"no-late-start": "I11"}),
    "late and in line": ("update waybill.items set deadline_at = now() - interval"
        " '1 hour' where id = {c}; update waybill.holds set open = false where item_id"
        " = {c}; insert into waybill.ready (item_id, stage, tenant_id, deadline_at,"
        " seq) select id, 'read', tenant_id, deadline_at, 1 from waybill.items where id"
        " = {c}", {"expired-ended": "I11", "one-decision": "I12"}),
    "done too late": ("update waybill.outcomes set at = at + interval '2 days' where"
        " item_id = {h}", {"on-time": "I11", "urgent-on-time": "I11", "kept": "I2",
                           "one-clock": "I26"}),
    "a decision on something else": ("update waybill.decisions set digest = 'x'",
                                     {"one-decision": "I12", "kept": "I2"}),
    "a decision without a trace": ("delete from waybill.checkpoints where worker_id is"
                                   " null", {"one-decision": "I12"}),
    "an end that nobody noted": ("delete from waybill.audit where item_id = {a} and"
                                 " event = 'done'", {"audited-ends": "I14"}),
    "an end noted twice": ("insert into waybill.audit (item_id, event, stage, actor)"
                           " values ({a}, 'failed', 'read', 'x')",
                           {"audited-ends": "I14"}),
    "a hold that nobody noted": ("delete from waybill.audit where event = 'held'",
                                 {"audited-moves": "I14"}),
    "an effect that nobody noted": ("delete from waybill.audit where event ="
                                    " 'effect_confirmed'", {"audited-moves": "I14"}),
    "another tenant's item": ("update waybill.items set tenant_id = (select max(id)"
        " from waybill.tenants) where id = {b}", {"tenant-wall": "I16", "kept": "I2"}),
    "under another's name": ("update waybill.tenants set name = case name when 'acme'"
        " then 'beta' else 'acme' end || '2'; update waybill.tenants set name ="
        " rtrim(name, '2')", {"own-tenant": "I16", "own-effects": "I16",
                              "none-lost": "I1"}),
    "an innocent failed": ("update waybill.outcomes set state = 'failed' where item_id"
                           " = {a}", {"as-expected": "I20"}),
    "left in dead hands": ("update waybill.effects set worker_id = gen_random_uuid(),"
                           " state = 'sending'", {"no-leftovers": "I21"}),
    "never finished": ("delete from waybill.outcomes where item_id = {f}; insert into"
        " waybill.waiting (item_id, stage, tenant_id, deadline_at, seq, attempt, until,"
        " why) select id, 'write', tenant_id, deadline_at, 4, 0, now(), 'x' from"
        " waybill.items where id = {f}", {"all-ended": "I22"}),
}  # fmt: skip


async def test_what_is_broken_is_named(
    run: Run, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    """By the number of its invariant, with an id and without a word of a document."""
    missed: dict[str, Any] = {}
    for number, (what, (sql, expected)) in enumerate(BREAKS.items()):
        results, told = await broken_by(run, owner, sql, tmp_path / str(number))
        shown = all(
            any(c.isdigit() for example in results[name].examples for c in example)
            for name in expected
            if name in told
        )
        if not expected.items() <= told.items() or not shown:
            missed[what] = told

    assert missed == {}


async def broken_by(
    run: Run, owner: asyncpg.Connection, sql: str, folder: Path
) -> tuple[dict[str, Found], dict[str, str]]:
    """What is found in the last look after `sql`, which is then taken back."""
    folder.mkdir()
    shutil.copy(run.folder / "looked.sqlite", folder)
    memory = Memory(folder)
    checker = run.checker
    checker.memory = memory
    changed = owner.transaction(isolation="repeatable_read")
    await changed.start()
    try:
        await owner.execute(sql.format(**run.ids))
        results = await checker.look(owner, ended=True)
        verdict = checker.verdict(results)
        memory.close()
    finally:
        await changed.rollback()
    return results, {
        line["name"]: line["invariant"] for line in verdict if line["violations"]
    }


async def test_an_effect_accepted_twice_is_named(
    run: Run, owner: asyncpg.Connection
) -> None:
    """A plain receiver may accept it once; one that knows keys, the same body only."""
    # Both went to one sink, and have its class.
    await owner.execute("update waybill.effects set class = 'a' where key = 'k-e'")
    run.take("k-e", tenant="beta")
    assert await run.broken() == {}

    run.take("k-a", tenant="acme")
    again = await run.broken()
    assert {name: one.violations for name, one in again.items()} == {"effect-once": 1}
    assert again["effect-once"].examples[0].endswith(" at print")

    run.take("k-e", b"another page")
    assert (await run.broken())["effect-once"].violations == 2


async def test_an_effect_that_was_never_received_is_named(
    run: Run, owner: asyncpg.Connection
) -> None:
    await owner.execute("update waybill.effects set key = 'lost' where key = 'k-a'")

    assert list(await run.broken()) == ["really-done"]


async def test_the_write_of_a_replaced_worker_is_named(
    run: Run, owner: asyncpg.Connection
) -> None:
    """A look found it gone; whatever bears its id and is later, it wrote since."""
    zombie = await run.world.join(lease_s=LEASE_S)
    await run.receive(("z", "acme", "any"))
    await run.world.claim(zombie)
    await run.look()
    await run.world.clock.advance(LEASE_S + 1)
    await run.world.store.reap([zombie], died=False)
    await run.look()

    await owner.execute(
        "insert into waybill.checkpoints (item_id, seq, stage, step, update, took_s,"
        " worker_id) values ($1, 0, 'read', 'page-1', '1', 0, $2)",
        run.ids["z"],
        zombie,
    )

    assert (await run.look())["fenced"].examples == (
        f"item {run.ids['z']} checkpoint 0 by {zombie}",
    )


async def test_what_a_look_found_is_told_in_the_end(
    run: Run, owner: asyncpg.Connection
) -> None:
    """Also when it was mended meanwhile; and how many looks there were."""
    await owner.execute("update waybill.holds set open = false where item_id = $1",
                        run.ids["c"])  # fmt: skip
    await run.look()
    await owner.execute("update waybill.holds set open = true where item_id = $1",
                        run.ids["c"])  # fmt: skip

    told = run.checker.verdict(await run.checker.all(60))

    broken = {line["name"]: line for line in told if line["violations"]}
    assert set(broken) == {"one-place", "one-decision"}
    assert broken["one-place"]["during"] == 4
    assert broken["one-place"]["examples"] == [f"item {run.ids['c']} stands nowhere"]


async def test_the_command_writes_the_verdict(
    run: Run, owner: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 when all was kept, 8 when something was not; the file has every line."""
    given = [str(run.folder), "--database", run.url]
    run.memory.close()

    assert await anyio.to_thread.run_sync(main, given) == 0
    verdict = json.loads((run.folder / "checker.json").read_text())
    assert [line["invariant"] for line in verdict][:3] == ["I1", "I1", "I1"]
    assert sum(line["violations"] for line in verdict) == 0

    await owner.execute("delete from waybill.outcomes where item_id = $1", run.ids["a"])
    assert await anyio.to_thread.run_sync(main, given) == 8
    assert f"item {run.ids['a']} stands nowhere" in capsys.readouterr().err


async def test_a_database_that_is_away_is_waited_for(run: Run) -> None:
    """A look that cannot be made finds nothing, and is made when it can be."""
    away = run.checker
    away.database = "postgresql://nobody@127.0.0.1:9/none"
    said: list[str] = []
    away.say = said.append

    with pytest.raises(TimeoutError):
        await away.all(0.2)
    assert said == ["the database is away: ConnectionRefusedError"]


def test_it_shares_nothing_with_what_it_judges() -> None:
    """In a process of its own, nothing of the service is loaded."""
    code = (
        "import sys, loadtest.checker.__main__;"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('pipeline', 'waybill', 'stages', 'ingest')])"
    )

    done = run_program([sys.executable, "-c", code], capture_output=True, check=True)

    assert done.stdout.strip() == b"[]"
