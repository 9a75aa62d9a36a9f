"""What `waybill demo` can show: its documents, and the world outside that they need."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.artifacts.durable import write_atomically

if TYPE_CHECKING:
    from loadtest.corpora.letters import DemoFile

WORLD_S = 3600
VENDORS = """\
# An ERP and a mail server, simulated on this machine for `waybill demo`.

[vendor.erp]
url = "{erp}"
inside = true
timeout_s = 5
idempotency_header = "idempotency-key"

[sink.erp]
kind = "http"
vendor = "erp"
path = "quotes"
dedupes = true                   # it knows a quote by its number and revision

[sink.mail]
kind = "smtp"
host = "127.0.0.1"
port = {smtp}
tls = "none"
sender = "sales@house.example"
"""
# Calls whose answer is lost, and answers of the day before yesterday: both are asked
# for again, and nothing else is.
ERP = {"faults": {"lost": 0.04, "stale": 0.04}}


class Played(NamedTuple):
    """
    The world that is played around a demo.

    Attributes:
        vendors: The file that declares it; None: as it is declared for all.
        again: The command that plays it once more, for what is decided later.
    """

    vendors: Path | None = None
    again: str = ""


class Show(NamedTuple):
    """
    What a demo shows.

    Attributes:
        make: Writes the documents of a seed into a folder.
        does: What becomes of them, for who watches.
        made: What the output folder is called.
        world: Plays what they need outside while the block lasts, declared in a folder;
            None: nothing.
    """

    files: int
    make: Callable[[Path, int], Sequence[DemoFile]]
    what: str
    does: str
    made: str
    world: Callable[[Path], AbstractContextManager[Played]] | None = None


def _letters(folder: Path, seed: int) -> Sequence[DemoFile]:
    from loadtest.corpora.letters import demo_files  # which draws: no other command

    return demo_files(folder, seed=seed, count=40)


def _contracts(folder: Path, seed: int) -> Sequence[DemoFile]:
    from loadtest.corpora.contracts import contract_files

    return contract_files(folder, seed=seed)


def _quotes(folder: Path, seed: int) -> Sequence[DemoFile]:
    from loadtest.corpora.enquiries import enquiry_files

    return enquiry_files(folder, seed=seed)


@contextmanager
def _distributor(folder: Path) -> Iterator[Played]:
    from loadtest.vendors.playing import playing

    folder.mkdir(parents=True, exist_ok=True)
    with playing({"erp": ERP, "mail": {}}, for_s=WORLD_S) as world:
        smtp = world.smtp("mail")
        vendors, config = folder / "vendors.toml", folder / "world.json"
        said = VENDORS.format(erp=world.url("erp"), smtp=smtp)
        write_atomically(vendors, said.encode())
        later = {"vendor": {"mail": {"port": smtp}}}
        write_atomically(config, json.dumps(later).encode())
        port = world.shown["url"].rpartition(":")[2]
        again = f"{sys.executable} -m loadtest vendors --config {config} --port {port}"
        yield Played(vendors, f"{again} --for {WORLD_S}")


SHOWS = {
    "letters": Show(
        40,
        _letters,
        "documents",
        "reading, checking, answering and printing",
        "replies",
    ),
    "contracts": Show(8, _contracts, "contracts", "reading and checking", "abstracts"),
    "quotes": Show(
        10,
        _quotes,
        "requests",
        "reading, looking up, fitting, pricing and quoting",
        "quotes",
        _distributor,
    ),
}
