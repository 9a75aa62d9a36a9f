"""
What is wrong with the machines of the service: as workers tell, and as is seen here.

Workers tell with their lease what keeps them from working.  The database may be the
trouble itself, so whoever asks also tries the folders of this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pipeline.store.limits import LimitRow
from pipeline.store.rows import TroubleRow, WorkerRow
from pipeline.trouble import Place, advice, look_at
from waybill import terminal
from waybill.settings import Places, Settings

START = "start `waybill up` or `waybill worker`"
NOBODY = f"no worker is up: {START}"
ASKED_S = 10.0  # so long a command that tells of trouble waits for a database


def seen_here(settings: Settings, *, unused: bool = False) -> list[TroubleRow]:
    """
    What is wrong with the folders of this machine, tried now.

    Args:
        unused: Nothing was ever stored, so that no folder needs to be there yet.
    """
    home = settings.home.absolute()
    places = (
        *Places.of(settings),
        Place("the inbox", settings.inbox_dir.absolute()),
        Place("the archive", home / "archive"),
        Place("the quarantine folder", home / "quarantine"),
        # Its server says nothing before it needs room that is not there.
        *([] if settings.database_url else [Place("the database", home / "postgres")]),
    )
    now = datetime.now(UTC)
    return [
        TroubleRow(advice(found), found.where, now)
        for place in places
        if (found := look_at(place._replace(made=place.made and not unused)))
        is not None
    ]


def troubles(
    settings: Settings, workers: Iterable[WorkerRow], *, unused: bool = False
) -> list[TroubleRow]:
    """Of every worker and of this machine, each place once, the oldest first."""
    found = [row for worker in workers for row in worker.troubles]
    found += seen_here(settings, unused=unused)
    found.sort(key=lambda row: row.since)
    return list({row.where: row for row in reversed(found)}.values())[::-1]


def why_weak(missing: Mapping[str, str]) -> str:
    """What to do when the kernel, or a container, grants less than tier 2."""
    whys = "; ".join(f"{name}: {why}" for name, why in sorted(missing.items()))
    return (
        f"{whys}. Give documents of strangers to Linux 5.13 or newer, with Landlock"
        " and seccomp"
    )


def for_good(row: LimitRow) -> bool:
    """Whether a limit is paused until somebody resumes it."""
    if row.paused_until is None:
        return False
    return row.paused_until.replace(tzinfo=UTC).year > datetime.now(UTC).year + 20


def paused(row: LimitRow) -> str:
    """By whom a limit is paused, and until when; "" where it is not."""
    if row.paused_until is None:
        return ""
    until = "resumed" if for_good(row) else terminal.clock(row.paused_until)
    return f"paused by {row.paused_by} until {until}"
