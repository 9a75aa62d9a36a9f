"""One stage on one file, before one's eyes; and mended code for what waits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.command import Home, eventually

FIRST = """
print("first looks")
return Advance(text="read")
"""
SECOND = """
ctx.progress(1, 2)
found = await ctx.step("look", look, letter.text)
ctx.product("slip", await ctx.artifacts.put(b"a slip"), words=1)
(ctx.out_dir / "slip.txt").write_text("a slip")
if found == "hold":
    return Hold("LOOK", "please", evidence={"found": found})
if found == "fail":
    raise KeyError("the secret text")
return Advance(text=found)
"""
DEAF = """
import time
while True:
    try: time.sleep(60)
    except BaseException: pass
"""
LOOK = """

async def look(text: str) -> str:
    return text
"""


@pytest.fixture(scope="module")
def tried(embedded_home: Home) -> Home:
    """A home without a database, a pipeline and a document."""
    folder = embedded_home.pipeline("notes", first=FIRST, second=SECOND, third="return")
    with (folder / "second.py").open("a") as file:
        file.write(LOOK)
    (embedded_home.folder / "letter.txt").write_text("a letter")
    embedded_home.environment["WAYBILL_PIPELINES"] = str(folder.parent)
    return embedded_home


def run(home: Home, *more: str | Path) -> tuple[int, dict[str, object], str]:
    call = ("pipelines", "run", "second", home.folder / "letter.txt")
    ran = home.run(*call, "--pipeline", "notes", "--json", *more)
    return ran.code, ran.json(), ran.err


def given(home: Home, **state: str) -> Path:
    path = home.folder / "state.json"
    path.write_text(json.dumps(state))
    return path


def test_earlier_stages_run_first_and_nothing_is_recorded(tried: Home) -> None:
    """What they print, and what the stage made, is seen; no database is started."""
    code, seen, err = run(tried, "--out", tried.folder / "made")

    assert (code, seen["outcome"], seen["updates"]) == (0, "Advance", {"text": "read"})
    assert seen["steps"] == {"look": "read"}
    assert seen["progress"] == [[1, 2]]
    assert seen["files"] == {"slip.txt": 6}
    assert "first looks" in err
    assert (tried.folder / "made" / "slip").read_bytes() == b"a slip"
    assert not (tried.folder / "postgres").exists()
    assert not (tried.folder / "objects").exists()


def test_a_given_state_is_what_the_stage_sees(tried: Home) -> None:
    """The stages before it do not run."""
    code, seen, err = run(tried, "--state", given(tried, text="as given"))

    assert (code, seen["updates"]) == (0, {"text": "as given"})
    assert "first looks" not in err


def test_a_hold_is_shown_with_its_evidence(tried: Home) -> None:
    """Exit 5, as of a batch with held items."""
    code, seen, _ = run(tried, "--state", given(tried, text="hold"))

    assert (code, seen["outcome"], seen["code"]) == (5, "Hold", "LOOK")
    assert seen["evidence"] == {"found": "hold"}


def test_an_error_says_where(tried: Home) -> None:
    """With its message and the line of the author's file, in the terminal alone."""
    state = given(tried, text="fail")
    code, seen, _ = run(tried, "--state", state)
    text = tried.run(
        *("pipelines", "run", "second", tried.folder / "letter.txt"),
        *("--pipeline", "notes", "--state", state),
    )

    assert code == text.code == 4
    assert seen["error"]["code"] == "STAGE_RAISED"  # type: ignore[index]
    [frame] = seen["frames"]  # type: ignore[misc]
    assert frame.startswith("second.py:")
    log = tried.folder / "logs" / "waybill.log"
    source = 'raise KeyError("the secret text")'
    assert seen["raised"][-1] == "KeyError: 'the secret text'"  # type: ignore[index]
    for line in ("KeyError: 'the secret text'", source, "/notes/second.py"):
        assert line in text.err
    assert "waybill-run-" not in text.err  # that file is gone
    assert "/pipeline/run/" not in text.err  # nor is the engine's of use
    assert not log.exists() or "the secret text" not in log.read_text()


def test_a_stage_that_nothing_interrupts_is_named(tried: Home) -> None:
    """It catches whatever ends it, and never waits: the command ends without it."""
    tried.pipeline("deaf", hears=DEAF)

    ran = tried.run(
        *("pipelines", "run", "hears", tried.folder / "letter.txt"),
        *("--pipeline", "deaf"),
        BLOCKED_S="1.5",
    )

    assert ran.code == 1
    assert "LOOP_BLOCKED" in ran.err
    assert "hears.py" in ran.err


OUTSIDE = """
if letter.text:
    await ctx.effect("bill", letter.text, {"total": "9.50"})
    return Advance(text=ctx.model("reader").name)
await ctx.signal("proof-read", bool)
return Advance()
"""


def test_what_it_does_outside_is_shown_and_not_done(tried: Home) -> None:
    """Effects that it plans, models that are declared, and signals that it asks for."""
    tried.pipeline("orders", sends=OUTSIDE)
    (tried.folder / "vendors.toml").write_text(
        '[vendor.llm]\nkind = "openai"\nurl = "https://llm.test/v1"\nmodel = "m"\n'
        '[model.reader]\nvendor = "llm"\n'
        '[sink.box]\nkind = "folder"\n'
    )

    def sent(text: str) -> tuple[int, dict[str, object]]:
        call = ("pipelines", "run", "sends", tried.folder / "letter.txt")
        state = given(tried, text=text)
        ran = tried.run(*call, "--pipeline", "orders", "--json", "--state", state)
        return ran.code, ran.json()

    code, seen = sent("box")
    away, gone = sent("nowhere")
    asks, asking = sent("")

    effect = seen["effects"]["box/bill"]  # type: ignore[index]
    assert (code, seen["updates"]) == (0, {"text": "reader"})
    assert (effect["sink"], effect["payload"]) == ("box", {"total": "9.50"})
    assert not (tried.folder / "box").exists()
    assert (away, gone["error"]["code"]) == (4, "NO_SUCH_SINK")  # type: ignore[index]
    assert (asks, asking["asks"], asking["raised"]) == (0, ["proof-read"], [])


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (("nowhere", "letter.txt", "--pipeline", "notes"), "USAGE"),
        (("second", "missing.txt", "--pipeline", "notes"), "USAGE"),
        (("second", "letter.txt", "--pipeline", "none"), "NO_SUCH_PIPELINE"),
        (
            ("second", "letter.txt", "--pipeline", "notes", "--state", "letter.txt"),
            "USAGE",
        ),
    ],
)
def test_what_is_not_there_is_named(
    tried: Home, call: tuple[str, ...], code: str
) -> None:
    """Stage, file, pipeline, state: one sentence and exit 2."""
    assert tried.run("pipelines", "run", *call, "--json").error() == (2, code)


# -- mended code -----------------------------------------------------------------------

OLD_STATE = """
from pydantic import BaseModel

class Note(BaseModel):
    text: str = ""
    size: str = ""
"""


def test_what_does_not_fit_the_mended_folder_says_why(home: Home) -> None:
    """Item by item: a state that does not fold, a stage that is gone, done ones."""
    folder = home.pipeline(
        "notes",
        read='return Advance(size="many") if "bad" in ctx.item.name else Advance()',
        work='if "good" in ctx.item.name:\n    return Advance()\nraise Permanent("no")',
        gone='if "gone" in ctx.item.name:\n    raise Permanent("no")\nreturn Advance()',
    )
    manifest = folder / "pipeline.toml"
    manifest.write_text(manifest.read_text() + 'state = "Note"\n')
    (folder / "state.py").write_text(OLD_STATE)
    made = home.folder / "made" / "them"
    made.mkdir(parents=True)
    for name in ("bad", "fine", "good", "good-gone"):
        (made / f"{name}.txt").write_text(name)
    home.run("ingest", made, "--pipeline", folder, "--batch", "b", "--wait")
    by_name = {r["name"]: str(r["id"]) for r in home.sql("select id, name from items")}
    assert home.ends() == {"failed": 3, "done": 1}

    (folder / "state.py").write_text(OLD_STATE.replace("size: str", "size: int"))
    (folder / "state.py").write_text(
        (folder / "state.py").read_text().replace('size: int = ""', "size: int = 0")
    )
    (folder / "work.py").write_text(
        (folder / "work.py")
        .read_text()
        .replace('raise Permanent("no")', "return Advance()")
    )
    manifest.write_text(manifest.read_text().replace(', "gone"', ""))
    call = ("items", "retry", "--pipeline", folder, "--yes")
    said = home.run(*call, *by_name.values(), "--json").json()
    text = home.run(*call, by_name["bad.txt"])

    assert said[by_name["fine.txt"]] == "ready"
    assert "do not fold" in said[by_name["bad.txt"]]
    assert "'size'" in said[by_name["bad.txt"]]
    assert "'gone' is not in the folder" in said[by_name["good-gone.txt"]]
    assert said[by_name["good.txt"]] == "done items are not retried"
    assert (text.code, "do not fold" in text.out) == (7, True)
    with home.started("worker"):
        assert eventually(lambda: home.ends().get("done") == 2, within_s=30)


def test_a_held_item_is_run_again_with_mended_code(home: Home) -> None:
    """Its hold is closed; and a done item says that it is not retried."""
    folder = home.pipeline("notes", work='return Hold("LOOK")')
    (home.folder / "a.txt").write_text("a")
    home.run("ingest", home.folder / "a.txt", "--pipeline", folder, "--wait")
    [hold] = home.ok("review", "ls")
    source = folder / "work.py"
    source.write_text(
        source.read_text().replace('return Hold("LOOK")', "return Advance()")
    )

    home.ok("items", "retry", "1", "--pipeline", folder)
    late = home.run("review", "approve", hold["hold"], "--json")
    with home.started("worker"):
        assert eventually(lambda: home.ends() == {"done": 1}, within_s=30)
    done = home.run("items", "retry", "1")

    assert late.error()[0] == 7
    assert (done.code, "done items are not retried" in done.out) == (7, True)
