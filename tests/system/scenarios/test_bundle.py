"""Bundles through the real command: every part becomes an item, once."""

from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from PIL import Image

from loadtest.scenarios.bundle import write_archive, write_stack
from tests.system.command import Home, eventually

PARTS = """
select i.name, o.state, o.code, i.parent_id, i.id
  from items i left join outcomes o on o.item_id = i.id
 where i.parent_id is not null order by i.id
"""


def png(shade: int) -> bytes:
    """A picture; another shade is another document."""
    out = BytesIO()
    Image.new("RGB", (64, 64), (shade % 256, shade // 256, 7)).save(out, "PNG")
    return out.getvalue()


def zipped(*entries: tuple[str, bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, data in entries:
            packed.writestr(name, data)
    return out.getvalue()


def mail(attached: Sequence[tuple[str, bytes]], text: str = "Dear Santa") -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "anna@example.org", "A letter"
    message.set_content(text)
    for name, data in attached:
        message.add_attachment(data, "application", "octet-stream", filename=name)
    return message.as_bytes()


@pytest.fixture
def pipeline(home: Home) -> Path:
    """Intake, and a stage that notes what it was given."""
    body = """
    pages = [letter.first_page, letter.page_count]
    return Advance(facts={"kind": letter.media_type, "pages": pages})
    """
    folder = home.pipeline("opened", note="\n".join(map(str.strip, body.splitlines())))
    manifest = folder / "pipeline.toml"
    text = manifest.read_text(encoding="utf-8").replace(
        '["note"]', '["intake", "note"]'
    )
    manifest.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def ingest(
    home: Home, pipeline: Path, tmp_path: Path
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Take files in and wait; the counts, which must obey the law at the end."""

    def take(**files: bytes) -> dict[str, Any]:
        paths = []
        for name, data in files.items():
            path = tmp_path / name.replace("_", ".")
            path.write_bytes(data)
            paths.append(path)
        ran = home.run("ingest", *paths, "--pipeline", pipeline, "--wait", "--json")
        report: dict[str, Any] = ran.json()
        return report

    yield take
    assert home.run("batches", "reconcile", "--json").code == 0


def facts_of(home: Home, item: int) -> dict[str, Any]:
    facts: dict[str, Any] = home.ok("items", "show", str(item))["state"]["facts"]
    return facts


def test_every_part_of_an_archive_becomes_an_item(
    home: Home, ingest: Callable[..., dict[str, Any]]
) -> None:
    """The bad one has a receipt, the same one twice is a duplicate, litter is left."""
    data = zipped(
        ("a.png", png(1)),
        ("again/a.png", png(1)),
        ("bad.png", png(2)),
        (".DS_Store", b""),
    )
    data = data.replace(png(2), png(2)[:-1] + b"!", 1)

    ingest(post_zip=data)

    [part] = home.sql(PARTS)
    assert (part["name"], part["state"]) == ("post.zip › a.png", "done")
    rows = home.sql("select disposal, code, name from receipts order by id")
    assert [(r["disposal"], r["code"]) for r in rows] == [
        ("item", ""),
        ("item", ""),
        ("duplicate", ""),
        ("quarantined", "PART_CORRUPT"),
    ]
    parent = facts_of(home, part["parent_id"])
    assert (parent["parts"], parent["skipped"], parent["refused"]) == (3, 1, 1)


def test_a_bundle_in_a_bundle_is_opened_three_deep(
    home: Home, ingest: Callable[..., dict[str, Any]]
) -> None:
    """A letter in an archive in a mail in an archive arrives; one deeper does not."""
    deep = zipped(("deeper.zip", zipped(("lost.png", png(3)))), ("there.png", png(4)))
    data = zipped(("post.eml", mail([("letters.zip", deep)])))

    ingest(all_zip=data)

    ended = {part["name"]: (part["state"], part["code"]) for part in home.sql(PARTS)}
    assert ended == {
        "all.zip › post.eml": ("done", ""),
        "all.zip › post.eml › message": ("done", ""),
        "all.zip › post.eml › letters.zip": ("done", ""),
        "all.zip › post.eml › letters.zip › deeper.zip": ("rejected", "BUNDLE_DEPTH"),
        "all.zip › post.eml › letters.zip › there.png": ("done", ""),
    }


def test_an_archive_of_litter_is_rejected(
    home: Home, ingest: Callable[..., dict[str, Any]]
) -> None:
    """Nobody waits for letters that were never in it."""
    ingest(post_zip=zipped(("__MACOSX/._a.png", b"x"), ("empty/", b"")))

    assert home.ends() == {"rejected": 1}
    assert home.one("select code from outcomes") == "EMPTY_BUNDLE"


def test_a_stack_is_divided_at_its_separator_sheets(
    home: Home, ingest: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Each letter is an item that knows its pages of the one file."""
    write_stack(tmp_path / "made.pdf", 3, seed=1)

    ingest(stack_pdf=(tmp_path / "made.pdf").read_bytes())

    parts = home.sql(PARTS)
    assert [part["name"] for part in parts] == [
        f"stack.pdf › page {n}" for n in (1, 3, 5)
    ]
    noted = [facts_of(home, part["id"]) for part in parts]
    assert [f["pages"] for f in noted] == [[1, 1], [3, 1], [5, 1]]
    assert {f["kind"] for f in noted} == {"application/pdf"}


# Of a page test_ocr.py tells the same, of a part test_intake.py, and what is said of a
# jailed process that ends, test_pool.py.
@pytest.mark.proof
def test_the_poisoned_letter_fails_alone(
    home: Home, ingest: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """It ends with the code of what stopped it; the letters beside it are done."""
    write_archive(tmp_path / "made.zip", 5, seed=1)

    ingest(post_zip=(tmp_path / "made.zip").read_bytes())

    assert home.ends() == {"done": 5, "failed": 1}
    [failed] = [part for part in home.sql(PARTS) if part["state"] == "failed"]
    assert failed["name"].endswith("poison.pdf")
    assert failed["code"] in ("JAIL_CRASHED", "MEMORY_LIMIT", "JAIL_TIMEOUT")


@pytest.mark.proof
def test_a_killed_worker_doubles_and_loses_no_part(
    home: Home, pipeline: Path, tmp_path: Path
) -> None:
    """kill -9 between two ranges of an archive: the next worker makes the rest."""
    count = 320
    path = tmp_path / "post.zip"
    path.write_bytes(zipped(*((f"{n}.txt", b"letter %d" % n) for n in range(count))))
    home.ok("ingest", path, "--pipeline", pipeline)
    born = "select count(*)::int from items where parent_id is not null"

    with home.started("worker") as worker:
        assert eventually(lambda: home.one(born) > 0, within_s=60)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)
    between = home.one(born)
    with home.started("worker"):
        assert eventually(lambda: home.ends() == {"done": count + 1}, within_s=80)

    assert 0 < between < count
    assert home.one(born) == count
    assert home.one("select count(*)::int from receipts") == count + 1
    assert home.run("batches", "reconcile", "--json").code == 0


def test_a_locked_stack_opens_with_the_tenants_password(
    home: Home, ingest: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """It is divided like any other, and the password is in no row."""
    write_stack(tmp_path / "made.pdf", 2, seed=1)
    with pikepdf.open(tmp_path / "made.pdf") as pdf:
        locked = pikepdf.Encryption(owner="o-sesame-o", user="u-sesame-u")
        pdf.save(tmp_path / "locked.pdf", encryption=locked)
    secrets = home.folder / "secrets" / "default"
    secrets.mkdir(parents=True)
    (secrets / "pdf-passwords.txt").write_text("wrong\nu-sesame-u\n", encoding="utf-8")

    ingest(stack_pdf=(tmp_path / "locked.pdf").read_bytes())

    assert [part["state"] for part in home.sql(PARTS)] == ["done", "done"]
    kept = home.one(
        "select count(*)::int from checkpoints where update::text like '%sesame%'"
    )
    assert kept == 0


def test_the_command_prints_a_separator_sheet(home: Home, tmp_path: Path) -> None:
    """A PDF of one page, where it was asked for."""
    ran = home.run("separator", "-o", tmp_path / "sheet.pdf")

    assert ran.code == 0, ran
    with pikepdf.open(tmp_path / "sheet.pdf") as pdf:
        assert len(pdf.pages) == 1
