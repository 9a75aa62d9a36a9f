"""
The hostile run: everything that ever broke something, dropped into a real service.

A real `waybill up` watches an inbox of hostile files and works them off.  Whatever
a file does, it must have a receipt and a name for what became of it, no worker may
die of it, no jailed process may outgrow its limit, and nobody may be called.  Run
twice, the same files must come to the same ends.

What happened is read from the database by SQL of our own, from /proc and from the
service's log.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy
from tempfile import mkdtemp
from typing import Any

import anyio
import asyncpg

from ingest.watch.folders import display_name
from loadtest.hostile import listener as listening
from loadtest.hostile.entry import CANARY, Hostile, plant
from loadtest.hostile.files import chosen, hostile_files
from loadtest.hostile.listener import Listener, attempts
from loadtest.scenarios.processes import Sizes, loops
from loadtest.trial import Ended, Progress, Trial, trial
from pipeline.jail import jailbreak
from pipeline.jail.codes import Cause, End
from pipeline.jail.pool import JailPool
from pipeline.store import embedded
from stages.reading.codes import CODES

END_S = 3600.0  # of one round; beside busy loops it takes four times as long
CALM = 3  # looks in a row that must find nothing to do
STAGES = ("intake", "ocr", "moderation", "generation", "output")
# A page here takes a second; what hangs is given up soon, so that a run ends.
SETTINGS = """
[stage.ocr]
page_timeout_s = 15
[stage.generation]
template = "templates/reply.toml"
[stage.output]
paper = "a5"
"""
STATUSES = {
    "OK",
    "EMPTY",
    "UNREADABLE",
    "TIMEOUT",
    "KILLED_MEMORY",
    "SKIPPED_LIMIT",
    "ERROR",
}
# Words that say no more than "something went wrong": a file may not end in one.
NAMELESS = {
    "",
    "INTERNAL",
    "UNEXPECTED",
    "UNACCEPTABLE",
    "PERMANENT",
    "TRANSIENT",
    "NEEDS_REVIEW",
    "REFUSED",
    "STAGE_RAISED",
    "STAGE_TIMEOUT",
    *(
        code.name
        for code in CODES.values()
        if code.cause is not Cause.DOCUMENT and code.end is not End.REFUSED
    ),
}
DEATHS = ("worker_died", "workers_killed", "lease_lost")


@dataclass
class Round:
    """What one service made of all files."""

    ends: dict[str, str] = field(default_factory=dict)  # file, or parent > child
    lost: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    pages_amiss: list[str] = field(default_factory=list)
    hidden_read: list[str] = field(default_factory=list)
    deaths: int = 0
    conserved: bool = False
    pages: int = 0
    items: int = 0
    seconds: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)


def run(
    say: Progress,
    *,
    seed: int = 1,
    most: int = 100_000,
    more: Path | None = None,
    once: bool = False,
    busy: int = 0,
    keep: bool = False,
) -> dict[str, Any]:
    """
    Everything twice, and what it comes to.

    Args:
        most, more: Files at most, of every group some; and a folder of others.
        once, busy: Only one round; loops that run beside the last one.
        keep: Leave the files, each round's log and every file's end in a folder.
    """
    rounds: list[Round] = []
    with Listener() as listener:
        files = chosen(hostile_files(seed, listener.url), most, seed)
        files += list(of_folder(more)) if more else []
        kept = Path(mkdtemp(prefix="waybill-hostile-")) if keep else None
        if kept:
            say(f"files and logs are kept in {kept}")
            (kept / "files").mkdir()
            for file in files:
                plant(kept / "files", file)
        say(f"{len(files)} files; the listener is {listener.url}")
        for number in (1,) if once else (1, 2):
            with trial() as it, loops(busy if once or number == 2 else 0):
                rounds.append(anyio.run(_round, it, files, say))
                if kept:
                    copy(it.folder / "log", kept / f"log-{number}")
                    ends = json.dumps(rounds[-1].ends, indent=1)
                    (kept / f"ends-{number}.json").write_text(ends)
            say(f"round {number} took {rounds[-1].seconds:.0f} s")
        heard = listener.heard
        tried = anyio.run(_jailed_attempts, listener.port)
        heard_then = listener.heard - heard
    return figures(files, rounds, heard, max(heard_then, len(tried["allowed"])), tried)


def of_folder(folder: Path) -> Iterable[Hostile]:
    """The regular files of a folder, however deep."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    for number, path in enumerate(paths):
        # The end of a name is what matters: the suffix.
        name = os.fsdecode(os.fsencode(path.name)[-200:])
        yield Hostile(f"dir-{number:05}-{name}", path.read_bytes())


async def _jailed_attempts(port: int) -> dict[str, Any]:
    """What a process can do in the jail of parsers, trying; two lists."""
    async with JailPool(1, allow=[listening, jailbreak]) as pool:
        found: dict[str, Any] = await pool.run(attempts, timeout_s=60, port=port)
        theirs = await jailbreak.self_test(pool)
    for way in jailbreak.GROUPS["network"]:
        found["tried"].append(f"jailbreak {way}")
        if theirs["attempts"][way] == jailbreak.ALLOWED:
            found["allowed"].append(f"jailbreak {way}")
    return found


# -- one round ------------------------------------------------------------------------


async def _round(it: Trial, files: list[Hostile], say: Progress) -> Round:
    """Drop all files into the inbox of a service, wait until it is idle, stop it."""
    it.pipeline("hostile", STAGES, more=SETTINGS)
    inbox = it.home / "inbox"
    inbox.mkdir(parents=True)
    for file in files:
        plant(inbox, file)
    server = await anyio.to_thread.run_sync(embedded.start, it.home / "postgres")
    found = Round()
    began = time.monotonic()
    service = it.start("up", WAYBILL_PIPELINE="hostile", WAYBILL_SETTLE_S="1")
    try:
        async with found.sizes.watching(service.pid):
            log = it.folder / "log"
            await _until_idle(service, server.owner_url, log, inbox, files, say)
        found.seconds = time.monotonic() - began
        await anyio.to_thread.run_sync(_stop, service)
    finally:
        if service.poll() is None:
            os.killpg(service.pid, signal.SIGKILL)
            service.wait(10)
    text = log.read_text(encoding="utf-8", errors="replace")
    found.deaths = sum(text.count(f'"event": "{word}"') for word in DEATHS)
    found.deaths += service.returncode != 0
    con = await asyncpg.connect(server.owner_url)
    try:
        await check(found, con, it, files, text)
    finally:
        await con.close()
    return found


async def _until_idle(
    service: subprocess.Popen[bytes],
    url: str,
    log: Path,
    inbox: Path,
    files: list[Hostile],
    say: Progress,
) -> None:
    """
    Wait until nothing but odd entries is left outside, and nothing moves inside.

    Raises:
        RuntimeError: the service ended by itself.
    """
    odd = {file.name for file in files if file.entry not in ("file", "sparse")}
    odd |= {f"linked-{os.fsdecode(f.data)}" for f in files if f.entry == "hardlink"}
    end = time.monotonic() + END_S
    calm = looks = 0
    while calm < CALM and time.monotonic() < end:
        await anyio.sleep(1)
        if service.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"`waybill up` ended; its log ends with {tail}")
        outside = len(set(os.listdir(inbox)) - odd)
        live, received = await _live(url)
        looks += 1
        if looks % 10 == 0:
            say(f"{outside} files outside, {received} received, {live} live")
        calm = calm + 1 if received and not (outside or live) else 0


async def _live(url: str) -> tuple[int, int]:
    """Items that still move, and files received."""
    try:
        con = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return 0, 0  # the service is still making its database
    try:
        row = await con.fetchrow(LIVE)
    except asyncpg.UndefinedTableError:
        return 0, 0
    finally:
        await con.close()
    assert row is not None
    return row["live"], row["received"]


# A bundle that waits for children who wait for a person does not move either.
LIVE = """
select (select count(*) from waybill.ready) + (select count(*) from waybill.running)
     + (select count(*) from waybill.waiting) as live,
       (select count(*) from waybill.receipts) as received
"""


def _stop(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    try:
        service.wait(60)
    except subprocess.TimeoutExpired:
        return  # killed by whoever called; its exit code then counts as a death


# -- the checker ----------------------------------------------------------------------


async def check(
    found: Round, con: asyncpg.Connection, it: Trial, files: list[Hostile], log: str
) -> None:
    """Compare what was dropped with what the database and the log say."""
    ended = {e.id: e for e in await anyio.to_thread.run_sync(it.ended)}
    found.items = len(ended)
    await _receipts(found, con, ended, files, log)
    for item in ended.values():
        if item.parent is not None:
            found.ends[f"{_origin(item, ended)} > {item.name}"] = word_of(item)
    found.unnamed += [
        f"item {e.id} {word_of(e)}" for e in ended.values() if nameless(e)
    ]
    for item in ended.values():
        await _pages(found, con, item)
        if CANARY in str(item.values.get("text", "")).upper():
            found.hidden_read.append(item.name)
    found.conserved = await con.fetchval(CONSERVED)


def word_of(item: Ended) -> str:
    """How an item ended: its code, or its state where that says it all."""
    return item.code or item.state


def nameless(item: Ended) -> bool:
    """Whether nobody could say from its record what became of an item."""
    if item.state == "done":
        return False
    if item.state == "waiting" and not item.code:
        return False  # a bundle, and its children are listed by themselves
    return item.state not in ("held", "rejected", "failed") or item.code in NAMELESS


def _origin(item: Ended, ended: dict[int, Ended]) -> str:
    """The names of a child's ancestors."""
    names: list[str] = []
    above = ended.get(item.parent or 0)
    while above is not None and len(names) < 10:
        names.append(above.name)
        above = ended.get(above.parent or 0)
    return " > ".join(reversed(names))


async def _receipts(
    found: Round,
    con: asyncpg.Connection,
    ended: dict[int, Ended],
    files: list[Hostile],
    log: str,
) -> None:
    """Give every file its end: that of its receipt, or what the log says of it."""
    by_key: dict[tuple[str, str], list[asyncpg.Record]] = {}
    refused: dict[str, asyncpg.Record] = {}
    for one in await con.fetch("select * from waybill.receipts order by id"):
        by_key.setdefault((one["key"], one["name"]), []).append(one)
        if one["disposal"] == "quarantined":
            refused[one["name"]] = one
            if one["code"] in NAMELESS:
                found.unnamed.append(f"{one['name']} refused {one['code']}")
    left = _left_alone(log)
    for file in files:
        name = display_name(file.name)
        rows = by_key.get((hashlib.sha256(file.data).hexdigest(), name), [])
        # Too large to be read: the receipt has no key of its bytes.
        whole = rows and file.entry == "file"
        row = rows.pop(0) if whole else refused.get(name)
        if row is None:
            end = left.get(name, "")
            if not end or file.entry in ("file", "sparse"):
                found.lost.append(f"{file.name!r} {end}".strip())
        elif row["disposal"] == "item":
            end = word_of(ended[row["item_id"]])
        else:
            end = row["code"] or row["disposal"]
        found.ends[file.name] = end


def _left_alone(log: str) -> dict[str, str]:
    """What the watcher said of entries that it left alone: code by shown name."""
    left: dict[str, str] = {}
    for line in log.splitlines():
        if '"ingest_' in line and '"name"' in line:
            event = json.loads(line)
            left[event["name"].rpartition("/")[2]] = event["code"]
    return left


async def _pages(found: Round, con: asyncpg.Connection, item: Ended) -> None:
    """Every page of an item that was read has one known end; none is missing."""
    count = int(item.values.get("page_count") or 0)
    read = item.values.get("read") or []
    if not read and item.state == "held" and item.stage == "ocr":
        read = await _pages_of_hold(con, item.id)
    if not read and (item.state in ("failed", "waiting", "nowhere") or not count):
        return  # no page was read, and its code says why
    found.pages += count
    wanted = list(range(1, count + 1))
    if [p["number"] for p in read] != wanted or any(
        p["status"] not in STATUSES for p in read
    ):
        found.pages_amiss.append(f"{item.name}: {len(read)} of {count}")


async def _pages_of_hold(con: asyncpg.Connection, item: int) -> list[dict[str, Any]]:
    """Pages of a document held while it is read: proposed, recorded, or shown."""
    row = await con.fetchrow(
        "select proposal::text, shown::text from waybill.holds"
        " where item_id = $1 and open",
        item,
    )
    assert row is not None
    proposed: list[dict[str, Any]] = json.loads(row["proposal"]).get("read") or []
    if proposed:
        return proposed
    pages = json.loads(row["shown"]).get("evidence", {}).get("pages", [])
    by_number = {p["number"]: p for p in pages}
    for step in await con.fetch(
        "select update::text as page from waybill.checkpoints"
        " where item_id = $1 and stage = 'ocr' and step like 'page-%'"
        " and update is not null",
        item,
    ):
        page = json.loads(step["page"])
        if "number" in page:
            by_number[page["number"]] = page
    return [by_number[number] for number in sorted(by_number)]


# Every item stands in exactly one place, and every receipt of one has it.
CONSERVED = """
with places as (
  select item_id from waybill.ready union all select item_id from waybill.running
  union all select item_id from waybill.waiting
  union all select item_id from waybill.joining
  union all select item_id from waybill.holds where open
  union all select item_id from waybill.outcomes)
select not exists (
         select from waybill.items i
          where (select count(*) from places p where p.item_id = i.id) <> 1)
   and not exists (select from places p
                    where not exists (select from waybill.items i
                                       where i.id = p.item_id))
   and (select count(*) from waybill.receipts where disposal = 'item')
       = (select count(*) from waybill.items)
"""


# -- figures --------------------------------------------------------------------------


def figures(
    files: list[Hostile],
    rounds: list[Round],
    heard: int,
    allowed: int,
    tried: dict[str, Any],
) -> dict[str, Any]:
    """The run in one object; `bad` is why it is not good."""
    first, last = rounds[0], rounds[-1]
    differs = sorted(
        f"{name!r}: {first.ends.get(name)} / {last.ends.get(name)}"
        for name in first.ends.keys() | last.ends.keys()
        if first.ends.get(name) != last.ends.get(name)
    )
    jailed = [j for r in rounds for j in r.sizes.jailed.values()]
    # The second reader's process has a larger limit, and is held to that one.
    cap = min((j.limit for j in jailed if j.limit), default=0)
    peak = max((j.peak for j in jailed if j.limit == cap), default=0)
    result: dict[str, Any] = {
        "files": len(files),
        "items": first.items,
        "pages": first.pages,
        "worker_deaths": sum(r.deaths for r in rounds),
        "unnamed": sum(len(r.unnamed) for r in rounds),
        "lost": sum(len(r.lost) for r in rounds),
        "pages_amiss": sum(len(r.pages_amiss) for r in rounds),
        "hidden_read": sum(len(r.hidden_read) for r in rounds),
        "conserved": all(r.conserved for r in rounds),
        "peak_jailed_rss_mb": peak >> 20,
        "rss_cap_mb": cap >> 20,
        "peak_second_rss_mb": max((j.peak for j in jailed), default=0) >> 20,
        "peak_worker_rss_mb": max(r.sizes.worker for r in rounds) >> 20,
        "network_attempts_allowed": heard + allowed,
        "network_attempts_tried": len(tried["tried"]),
        "same_twice": not differs if len(rounds) > 1 else None,
        "outcomes": dict(Counter(first.ends.values()).most_common()),
        "seconds": round(sum(r.seconds for r in rounds), 1),
        "seen": _examples(rounds, differs, tried),
    }
    zero = ("worker_deaths", "unnamed", "lost", "pages_amiss", "hidden_read")
    result["bad"] = [
        *(word for word in (*zero, "network_attempts_allowed") if result[word]),
        *(["conserved"] if not result["conserved"] else []),
        *(["same_twice"] if differs and len(rounds) > 1 else []),
        *(["rss"] if not cap or any(j.unbound for j in jailed) else []),
    ]
    return result


def _examples(
    rounds: list[Round], differs: list[str], tried: dict[str, Any]
) -> dict[str, list[str]]:
    """The first of whatever is amiss, to begin looking somewhere."""
    seen = {
        word: [text for r in rounds for text in getattr(r, word)]
        for word in ("unnamed", "lost", "pages_amiss", "hidden_read")
    }
    seen |= {"differs": differs, "network": tried["allowed"]}
    return {word: texts[:20] for word, texts in seen.items() if texts}
