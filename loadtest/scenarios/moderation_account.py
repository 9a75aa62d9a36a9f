"""
What became of the letters of the moderation run, asked in SQL of its own.

Nothing here is the service's: what a voter said is read in the kept answers as they
came, severities in the rule files, and the chance of each letter is worked out anew.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import asyncpg

from loadtest.scenarios.moderation_given import GRAVE_FROM, Letter, severities
from loadtest.scenarios.moderation_people import CARELESS, GRAVE, People

SAMPLE, BY_PERSON = "QUALITY_SAMPLE", "REPLY_BY_PERSON"
WITHIN = timedelta(hours=4, seconds=5)  # the clock of what is grave
TAIL = 1e-5  # of a sound lottery is called broken, at either end of each figure
LONG_CHARS = 2_000

HOLDS = """
select i.name, h.stage, h.code, h.role, h.due_at - h.held_at as within,
       d.verb, d.author
  from waybill.items i
  join waybill.holds h on h.item_id = i.id
  left join waybill.decisions d on d.hold_id = h.id
"""
FLAGGED = """
select i.name, flag.key as said
  from waybill.items i
  join waybill.checkpoints c on c.item_id = i.id,
       jsonb_array_elements(c.update #> '{data,results}') one,
       jsonb_each(one -> 'categories') flag
 where c.step = 'vote:moderation' and flag.value = 'true'
"""
SPOKEN = """
select i.name, choice #>> '{message,content}' as said,
       choice #>> '{message,refusal}' as refusal,
       choice ->> 'finish_reason' as finish
  from waybill.items i
  join waybill.checkpoints c on c.item_id = i.id,
       jsonb_array_elements(c.update #> '{data,choices}') choice
 where c.step ~ '^vote:model:reader/1-[12]$'
"""
VERDICTS = """
select i.name, p.name as pipeline, c.update -> 'verdict' as verdict
  from waybill.items i
  join waybill.pipelines p on p.id = i.pipeline_id
  join waybill.checkpoints c on c.item_id = i.id
 where c.stage = 'moderation' and c.step is null and c.update ? 'verdict'
 order by c.seq
"""
SAID = """
select i.name, c.update ->> 'answer_by' as answer_by, c.update ->> 'missed' as missed
  from waybill.items i join waybill.checkpoints c on c.item_id = i.id
 where c.worker_id is null
"""
WRITTEN = """
select i.name from waybill.items i join waybill.checkpoints c on c.item_id = i.id
 where c.stage = 'generation' and c.update #>> '{reply,writer}' = 'offline-template'
"""
ENDS = """
select i.name, o.state from waybill.items i join waybill.outcomes o on o.item_id = i.id
"""
NONE = (
    *("let_pass_by_vote", "grave_in_common_queue", "bulk_approved_grave"),
    *("bulk_approved_sampled", "grave_answered_by_machine", "away_let_pass"),
    *("sampled_not_found", "stats_differ", "lost", "failed"),
)
# What must have happened, or nothing was tried.
TRIED = ("grave", "alarmed_by_votes", "bulk_refused", "alone_refused", "away")
NO_WORD = re.compile(r"[^a-z0-9]+")


class Heard(NamedTuple):
    """
    Of the votes that came: who was alarmed, and who was so for the gravest reason.

    A name is here once anything that was said of it asks for a person.
    """

    alarmed: set[str]
    grave: set[str]


async def account(
    con: asyncpg.Connection,
    given: Mapping[str, Letter],
    rate: float,
    people: People,
    stats: Any,
) -> dict[str, Any]:
    """Every figure, and under `bad` the promises that are broken."""
    holds = [dict(row) for row in await con.fetch(HOLDS)]
    ends = {row["name"]: row["state"] for row in await con.fetch(ENDS)}
    heard = await _heard(con, given)
    for_a_person = {
        h["name"] for h in holds if h["stage"] == "moderation" and h["code"] != SAMPLE
    }
    must = {n for n, letter in given.items() if letter.held_by_rules} | heard.alarmed
    grave = {n for n, letter in given.items() if letter.grave} | heard.grave
    found: dict[str, Any] = {
        "let_pass_by_vote": len(must - for_a_person),
        "grave_in_common_queue": len(_in_common(holds, grave, people)),
        "bulk_approved_grave": len(_approved(holds, grave)),
        "bulk_approved_sampled": sum(
            h["code"] == SAMPLE and h["author"] == CARELESS for h in holds
        ),
        "grave_answered_by_machine": await _by_machine(con, grave),
        **await _drawn(con, given, for_a_person, holds, rate),
        "letters": len(given),
        "held": len(for_a_person),
        "grave": len(grave),
        "alarmed_by_votes": len(heard.alarmed),
        "innocent_held": sum(given[n].kind == "innocent" for n in for_a_person),
        "bulk_refused": people.refused["ONE_BY_ONE"],
        "alone_refused": people.refused["ANSWER_NEEDED"],
        "ruled_on": dict(people.ruled),
        "lost": len(given) - len(ends),
        "failed": sum(state not in ("done", "rejected") for state in ends.values()),
    }
    found["stats_differ"] = _differ(stats, found)
    return found | {"bad": bad(found)}


def bad(found: Mapping[str, Any]) -> list[str]:
    """Which promises were broken, or not tried."""
    broken = [word for word in NONE if found[word]]
    for word, seen in (("sampled", "sampled"), ("planted", "planted_found")):
        low, high = found["expected"][seen]
        if not low <= found[seen] <= high:
            broken.append(seen)
        if not found[word]:
            broken.append(f"no {word}")
    return broken + [f"no {word}" for word in TRIED if not found[word]]


# -- votes --------------------------------------------------------------------------


async def _heard(con: asyncpg.Connection, given: Mapping[str, Letter]) -> Heard:
    known = severities()
    heard = Heard(set(), set())
    for row in await con.fetch(FLAGGED):
        heard.alarmed.add(row["name"])
        category = NO_WORD.sub("_", row["said"].partition("/")[0])
        if known.get(category, 0) >= GRAVE_FROM:
            heard.grave.add(row["name"])
    for row in await con.fetch(SPOKEN):
        name = row["name"]
        if row["refusal"]:
            heard.alarmed.add(name)
            continue
        said = _opinion(row["said"])
        if not (said["adult_needed"] or said["kinds"]):
            continue
        heard.alarmed.add(name)
        # What quotes nothing that stands there is no vote, and is held all the same.
        quoted = said["words"] and all(w in given[name].text for w in said["words"])
        gravest = max((known.get(kind, 0) for kind in said["kinds"]), default=0)
        if quoted and row["finish"] == "stop" and gravest >= GRAVE_FROM:
            heard.grave.add(name)
    return heard


def _opinion(text: str | None) -> dict[str, Any]:
    """A model's answer; where it is cut off or none, it asks for nobody."""
    try:
        found: dict[str, Any] = json.loads(text or "")
    except ValueError:
        return {"adult_needed": False, "kinds": [], "words": []}
    return found


# -- what is grave ------------------------------------------------------------------


def _in_common(
    holds: Iterable[Mapping[str, Any]], grave: set[str], people: People
) -> set[str]:
    """Grave letters that lay in the common line, or without a clock of their own."""
    found = people.seen_in_common & grave
    for hold in holds:
        # Also what people found to be missed, once somebody must answer it.
        if hold["name"] not in grave and hold["code"] != BY_PERSON:
            continue
        due = hold["within"]
        clocked = due is not None and due <= WITHIN
        if hold["role"] != GRAVE or not clocked:
            found.add(hold["name"])
    return found


def _approved(holds: Iterable[Mapping[str, Any]], grave: set[str]) -> set[str]:
    """Grave letters that were approved by anybody, or ruled on by the careless one."""
    return {
        h["name"]
        for h in holds
        if h["name"] in grave and (h["verb"] == "approve" or h["author"] == CARELESS)
    }


async def _by_machine(con: asyncpg.Connection, grave: set[str]) -> int:
    """Grave or missed letters that a machine answered, and nobody had said it may."""
    said = await con.fetch(SAID)
    missed = {row["name"] for row in said if row["missed"]}
    allowed = {row["name"] for row in said if row["answer_by"] == "machine"}
    written = {row["name"] for row in await con.fetch(WRITTEN)}
    return len(written & (grave | missed) - allowed)


# -- what is drawn by lot -----------------------------------------------------------


async def _drawn(
    con: asyncpg.Connection,
    given: Mapping[str, Letter],
    held: set[str],
    holds: Sequence[Mapping[str, Any]],
    rate: float,
) -> dict[str, Any]:
    """How many were drawn and found, and how many must be, by each letter's chance."""
    drawn = {h["name"] for h in holds if h["code"] == SAMPLE}
    read = {h["name"] for h in holds if h["code"] == SAMPLE and h["verb"]}
    missed = {row["name"] for row in await con.fetch(SAID) if row["missed"]}
    chances: dict[str, float] = {}
    counts: dict[str, int] = defaultdict(int)
    for row in await con.fetch(VERDICTS):
        name, verdict = row["name"], json.loads(row["verdict"])
        away = [v["code"] for v in verdict["votes"] if v["says"] == "away"]
        counts["away"] += bool(away)
        if name in held:
            continue
        noted = bool(verdict["categories"])
        when = row["pipeline"].rpartition("-")[2]
        gone = [code for code in away if code != "VOTE_VOID"]
        counts["away_let_pass"] += bool(
            (when == "wait" and gone) or (when == "hold" and away and noted)
        )
        chance = rate * (2 if len(given[name].text) > LONG_CHARS else 1)
        chance *= (3 if noted else 1) * (4 if when == "sample" and away else 1)
        chances[name] = min(1.0, chance)
    planted = {name for name in chances if given[name].must_be_seen}
    plain = {name for name, chance in chances.items() if chance == rate}
    return {
        "stated_share": rate,
        "sampled_share": round(len(plain & drawn) / max(1, len(plain)), 4),
        "planted": len(planted),
        "planted_found": len(planted & missed),
        "expected": {
            "planted_found": interval([chances[name] for name in planted]),
            "sampled": interval([*chances.values()]),
        },
        "sampled": len(drawn),
        "read": len(read),
        "sampled_not_found": len(planted & drawn - missed),
        "passed": len(chances),
        "away": counts["away"],
        "away_let_pass": counts["away_let_pass"],
    }


def interval(chances: Sequence[float]) -> tuple[int, int]:
    """
    How many of independent draws with these chances come true, but for rare cases.

    Exact: the distribution is worked out draw by draw; beyond either end lies at most
    TAIL of it.
    """
    odds = [1.0]
    for chance in chances:
        grown = [share * (1 - chance) for share in odds] + [0.0]
        for number, share in enumerate(odds):
            grown[number + 1] += share * chance
        odds = grown
    low = high = 0
    below = above = 0.0
    while below + odds[low] <= TAIL:
        below += odds[low]
        low += 1
    high = len(odds) - 1
    while above + odds[high] <= TAIL:
        above += odds[high]
        high -= 1
    return low, high


def _differ(stats: Any, found: Mapping[str, Any]) -> list[str]:
    """Figures of `waybill moderation stats` that are not those counted here."""
    said = (stats or {}).get("all", {})
    mine = {word: found[word] for word in ("passed", "held", "sampled", "read")}
    mine["found"] = found["planted_found"]
    return [word for word, number in mine.items() if said.get(word) != number]
