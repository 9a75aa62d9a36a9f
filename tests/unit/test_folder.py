"""Pipelines are folders: read strictly, pinned by content, kept for their items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.artifacts.files import FileArtifacts
from pipeline.bound import Degraded, seconds
from pipeline.calls import Budget, WhenUsedUp
from pipeline.errors import Usage
from pipeline.folder import Builtin, Catalogue, load
from pipeline.model import Advance
from pipeline.pinned import list_files, version_of
from pipeline.stage import Retry, Settings, stage
from pipeline.store.memory import MemoryStore
from tests.unit.engine import Letter


class OcrSettings(Settings):
    """What `[stage.ocr]` may say beside the policies."""

    lang: str = "eng"


@stage(timeout_s=60, retry=Retry(attempts=7, base_s=2), window=30)
async def intake(letter: Letter, ctx: Any) -> Advance:
    return Advance()


@stage(settings=OcrSettings)
async def ocr(letter: Letter, ctx: Any) -> Advance:
    return Advance()


BUILTIN = Builtin({"intake": intake, "ocr": ocr}, Letter)
CUSTOM = """
from pipeline.stage import Advance, stage

@stage()
async def stamp(letter, ctx):
    return Advance(text="{text}")
"""


def folder(root: Path, manifest: str, **files: str) -> Path:
    """A pipeline folder of this manifest and these files beside it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "pipeline.toml").write_text(manifest, encoding="utf-8")
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_folder_says_stages_policies_and_settings(tmp_path: Path) -> None:
    """What is given overrides, what is not stays as the stage declared it."""
    root = folder(
        tmp_path,
        """
        name = "letters"
        deadline = "1d12h"
        stages = ["intake", "ocr"]
        [stage.intake]
        attempts = 3
        window = 5
        [stage.ocr]
        lang = "deu"
        timeout_s = 10
        limit = "ocr"
        [limit.ocr]
        rate = 10
        per_s = 60
        """,
    )

    found = load(root, BUILTIN)

    first, second = found.stages.values()
    assert first.stage.retry == Retry(attempts=3, base_s=2)
    assert (first.stage.window, first.stage.timeout_s) == (5, 60)
    assert (second.stage.timeout_s, second.stage.limit) == (10, "ocr")
    assert second.settings == OcrSettings(lang="deu")
    assert [(s.name, s.next, s.depth) for s in (first, second)] == [
        ("intake", "ocr", 0),
        ("ocr", "", 1),
    ]
    assert found.deadline_s == 36 * 3600
    assert found.limits["ocr"].per_s == 60
    assert found.first == "intake"


AGENT = """
from pipeline.agents.agent import Agent
from pipeline.agents.tools import tool
from pipeline.stage import Done, stage

@tool()
async def find(around, words: str) -> str:
    return words

READER = Agent("reader", prompt="reader.md", models=("m",), tools=(find,))

@stage()
async def ask(state, ctx):
    return Done()
"""


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("'*/ask/reader' = ['find']", ""),
        ("'*/write/reader' = ['find']", "write/reader"),
        ("'*/ask/writer' = ['find']", "ask/writer"),
        ("'*/ask/reader' = ['send']", "ask/reader"),
    ],
)
def test_grants_are_read_with_the_folder(tmp_path: Path, line: str, why: str) -> None:
    """A line that grants nothing is refused by its name."""
    text = f"name = 'x'\nstages = ['ask']\n[grant]\n{line}"
    root = folder(tmp_path, text, **{"ask.py": AGENT})
    (root / "reader.md").write_text("You read.")

    if not why:
        assert load(root, BUILTIN).grants == {"*/ask/reader": ["find"]}
        return
    with pytest.raises(Usage, match=why):
        load(root, BUILTIN)


def test_the_prompts_of_agents_lie_in_the_folder(tmp_path: Path) -> None:
    """One that does not is named when the folder is read, and not by an item."""
    root = folder(tmp_path, "name = 'x'\nstages = ['ask']", **{"ask.py": AGENT})
    with pytest.raises(Usage, match=r"reader\.md"):
        load(root, BUILTIN)


def test_a_stage_may_do_with_less_when_time_is_short(tmp_path: Path) -> None:
    """Settings that are not named there are the stage's own."""
    root = folder(
        tmp_path,
        """
        name = "letters"
        stages = ["intake", "ocr"]
        [stage.ocr]
        lang = "deu"
        [stage.ocr.degraded]
        when_left = "1h30m"
        lang = "eng"
        """,
    )

    found = load(root, BUILTIN).stages

    assert found["intake"].degraded is None
    assert found["ocr"].settings == OcrSettings(lang="deu")
    assert found["ocr"].degraded == Degraded(OcrSettings(lang="eng"), 5400)


@pytest.mark.parametrize(
    ("less", "said"),
    [
        ("degraded = 3", "must be a table"),
        ("degraded = {}", "changes no setting"),
        ("degraded = {when_left = '2h'}", "changes no setting"),
        ("degraded = {lang = 'eng'}", "would never be used"),
        ("degraded = {when_left = 2, lang = 'eng'}", "is no text"),
        ("degraded = {when_left = 'soon', lang = 'eng'}", "is not a duration"),
        ("degraded = {when_left = '1h', tongue = 'eng'}", "tongue"),
    ],
)
def test_what_cannot_be_done_with_less_is_refused(
    tmp_path: Path, less: str, said: str
) -> None:
    """With the key and what it may be."""
    text = f"name = 'x'\nstages = ['ocr']\n[stage.ocr]\n{less}"

    with pytest.raises(Usage, match=said):
        load(folder(tmp_path, text), BUILTIN)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("name = 'x'\nstages = []", "stages"),
        ("name = 'X y'\nstages = ['intake']", "name"),
        ("name = 'x'\nstages = ['intake']\ncolour = 'red'", "colour"),
        ("name = 'x'\nstages = ['intake', 'intake']", "twice"),
        ("name = 'x'\nstages = ['itnake']", "itnake"),
        ("name = 'x'\nstages = ['intake']\n[stage.ocr]\nlang = 'e'", "stage.ocr"),
        ("name = 'x'\nstages = ['intake']\n[stage.intake]\nlang = 'e'", "lang"),
        ("name = 'x'\nstages = ['ocr']\n[stage.ocr]\ntimeout_s = 0", "timeout_s"),
        ("name = 'x'\nstages = ['ocr']\n[stage.ocr]\nwindow = true", "window"),
        ("name = 'x'\nstages = ['ocr']\n[stage.ocr]\nattempts = '3'", "attempts"),
        ("name = 'x'\nstages = ['ocr']\n[budget]\nitem = '1'", "budget.item"),
        ("name = 'x'\nstages = ['ocr']\n[budget]\ncalls_max = 0", "budget.calls_max"),
        ("name = 'x'\nstages = ['ocr']\n[budget]\nwhen_used_up = 'go'", "used_up"),
        (
            "name = 'x'\nstages = ['ocr']\n[budget]\nitem = '1 USD'\nbatch = '1 EUR'",
            "one currency",
        ),
        ("name = 'x'\nstages = ['ocr']\n[stage.ocr]\nlimit = 'llm'", "limit.llm"),
        ("name = 'x'\nstages = ['ocr']\ndeadline = 'soon'", "soon"),
        ("name = 'x'\nstages = ['ocr']\nstate = 'Letter'", "state.py"),
        ("name = 'x'\nstages = ['ocr'", "cannot be read"),
        ("name = 'x'\nstages = ['ocr']\njailed = ['stamp']", "jailed: there is no"),
        ("name = 'x'\nstages = ['ocr']\njailed = ['stamp']", "stamp.py"),
        ("name = 'x'\nstages = ['ocr']\njailed = ['../x']", "../x.py"),
        ("name = 'x'\nstages = ['ocr']\n[export]\nchannels = ['txt']", "'txt'"),
        ("name = 'x'\nstages = ['ocr']\n[export]\nchannels = ['text.']", "'text.'"),
        ("name = 'x'\nstages = ['ocr']\n[export]\ncolumns = []", "export.columns"),
    ],
)
def test_a_mistake_in_a_manifest_is_named(
    tmp_path: Path, manifest: str, said: str
) -> None:
    """Refused when it is read, with the key or the name that is wrong."""
    with pytest.raises(Usage) as refused:
        load(folder(tmp_path, manifest), BUILTIN)

    assert said in refused.value.message


def test_a_folder_without_a_manifest_says_what_to_do(tmp_path: Path) -> None:
    """The hint names an example to copy."""
    with pytest.raises(Usage) as refused:
        load(tmp_path, BUILTIN)

    assert "pipeline.toml" in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    "broken",
    [
        "this is not python",
        "import no_such_module",
        "x = undefined",
        "1 / 0",
        "[][0]",
        "raise SystemError",
        "stamp = 'not a stage'",
    ],
)
def test_a_stage_file_that_cannot_be_used_is_a_usage_error(
    tmp_path: Path, broken: str
) -> None:
    """Whatever its top level raises, the file is named and nothing dies."""
    root = folder(tmp_path, "name = 'x'\nstages = ['stamp']", **{"stamp.py": broken})

    with pytest.raises(Usage) as refused:
        load(root, BUILTIN)

    assert "stamp.py" in refused.value.message


def test_a_folder_says_which_of_its_files_may_run_jailed(tmp_path: Path) -> None:
    """By the module's name, under which a stage's function knows itself."""
    manifest = "name = 'x'\nstages = ['stamp']\njailed = ['stamp']"
    root = folder(tmp_path, manifest, **{"stamp.py": CUSTOM.format(text="a")})

    found = load(root, BUILTIN)

    module = found.stages["stamp"].stage.run.__module__
    assert found.jailed == {module: root / "stamp.py"}


def test_a_folder_says_what_an_export_shows(tmp_path: Path) -> None:
    """Channels and keys of them, each once, in the order given."""
    shown = "channels = ['pages.1', 'text', 'pages.1']"
    root = folder(tmp_path, f"name = 'x'\nstages = ['ocr']\n[export]\n{shown}")

    assert load(root, BUILTIN).exports == ["pages.1", "text"]


def test_a_state_model_of_the_folder_is_used(tmp_path: Path) -> None:
    """`state = "Quote"` is the class of that name in state.py."""
    root = folder(
        tmp_path,
        "name = 'x'\nstate = 'Quote'\nstages = ['intake']",
        **{
            "state.py": "from pydantic import BaseModel\n"
            "class Quote(BaseModel): n: int = 1"
        },
    )

    state = load(root, BUILTIN).channels.initial({})

    assert isinstance(state, BaseModel)
    assert state.model_dump() == {"n": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("21d", 21 * 86400),
        ("6h", 21600),
        ("90m", 5400),
        ("1d 12h", 129600),
        ("0.5s", 0.5),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, expected: float) -> None:
    """Days, hours, minutes, seconds and their sums."""
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "3", "d", "3w", "-1d", "1d2", "0s", "9999999d", "1e3s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Never guessed: a deadline is at stake."""
    with pytest.raises(Usage):
        seconds(text)


def test_the_version_is_the_content(tmp_path: Path) -> None:
    """Any byte or name changes it; time and hidden files do not."""
    root = folder(tmp_path, "name = 'x'\nstages = ['intake']", prompts__a="one")
    before = version_of(list_files(root))
    (root / ".hidden").write_text("x")
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").write_text("x")
    same = version_of(list_files(root))
    (root / "prompts" / "a").write_text("two")
    changed = version_of(list_files(root))
    (root / "prompts" / "a").rename(root / "prompts" / "b")
    renamed = version_of(list_files(root))

    assert same == before
    assert len({before, changed, renamed}) == 3


def test_files_are_read_inside_the_folder_alone(tmp_path: Path) -> None:
    """A setting cannot name a file of the machine."""
    (tmp_path / "secret").write_text("x")
    found = load(folder(tmp_path / "p", "name = 'x'\nstages = ['intake']"), BUILTIN)

    for outside in ("../secret", str(tmp_path / "secret")):
        with pytest.raises(Usage):
            found.folder.text(outside)


async def test_an_item_keeps_the_version_that_it_began_with(tmp_path: Path) -> None:
    """Edited, published again or deleted: the old version is brought back as it was,
    beside the new one."""
    root = folder(
        tmp_path / "live",
        "name = 'x'\nstages = ['stamp']",
        **{"stamp.py": CUSTOM.format(text="old")},
    )
    artifacts = FileArtifacts(tmp_path / "objects")
    store = MemoryStore()
    first = Catalogue(artifacts, tmp_path / "one", BUILTIN)
    old, _ = await first.publish(root, store)
    (root / "stamp.py").write_text(CUSTOM.format(text="new"))
    new, _ = await first.publish(root, store)
    again, _ = await first.publish(root, store)
    (root / "stamp.py").unlink()

    elsewhere = Catalogue(artifacts, tmp_path / "two", BUILTIN)
    said = []
    for number in (old, new):
        found = await elsewhere.get(number, store)
        outcome = await found.stages["stamp"].stage.run(Letter(), None)
        said.append(outcome)

    assert again == new != old
    assert said == [Advance(text="old"), Advance(text="new")]


async def test_a_folder_half_laid_out_is_laid_out_again(tmp_path: Path) -> None:
    """A crash while files were brought back leaves nothing that is believed."""
    root = folder(tmp_path / "live", "name = 'x'\nstages = ['intake']", prompt="long")
    artifacts = FileArtifacts(tmp_path / "objects")
    store = MemoryStore()
    number, pipeline = await Catalogue(artifacts, tmp_path, BUILTIN).publish(
        root, store
    )
    half = tmp_path / "cache" / f"x@{pipeline.folder.version}"
    half.mkdir(parents=True)
    (half / "prompt").write_text("lo")

    found = await Catalogue(artifacts, tmp_path / "cache", BUILTIN).get(number, store)

    assert found.folder.text("prompt") == "long"


# -- branches --------------------------------------------------------------------------

BRANCHED = """
name = "letters"
stages = ["intake"]
[branch.part]
stages = ["ocr", "stamp"]
[stage.ocr]
lang = "deu"
"""


def test_a_branch_is_a_line_of_its_own(tmp_path: Path) -> None:
    """Its stages follow each other and end there; the main line does not lead in."""
    root = folder(tmp_path, BRANCHED)
    (root / "stamp.py").write_text(CUSTOM.format(text="x"))

    found = load(root, BUILTIN)

    assert list(found.stages) == ["intake", "ocr", "stamp"]
    assert [s.next for s in found.stages.values()] == ["", "stamp", ""]
    assert found.first == "intake"
    assert found.branches == {"part": "ocr"}
    assert found.stages["ocr"].settings == OcrSettings(lang="deu")


def test_children_come_before_what_they_were_found_in(tmp_path: Path) -> None:
    """Stages of a branch lie deeper than those of the main line: what is begun is
    finished before the next bundle is opened."""
    root = folder(tmp_path, BRANCHED)
    (root / "stamp.py").write_text(CUSTOM.format(text="x"))

    depths = {name: s.depth for name, s in load(root, BUILTIN).stages.items()}

    assert depths["intake"] < depths["ocr"] < depths["stamp"]


@pytest.mark.parametrize(
    "branch",
    ['stages = ["intake"]', 'stages = ["ocr", "ocr"]', "stages = []", 'way = "x"'],
)
def test_a_branch_that_cannot_be_is_refused(tmp_path: Path, branch: str) -> None:
    """A stage stands in one line, once; a branch has stages and nothing else."""
    root = folder(
        tmp_path, f'name = "letters"\nstages = ["intake"]\n[branch.part]\n{branch}\n'
    )

    with pytest.raises(Usage) as refused:
        load(root, BUILTIN)

    assert "pipeline.toml" in refused.value.message


def test_a_misspelt_policy_is_told_what_there_is(tmp_path: Path) -> None:
    """A stage without settings of its own still has its policies."""
    manifest = 'name = "letters"\nstages = ["intake"]\n[stage.intake]\ntimout_s = 3\n'
    root = folder(tmp_path / "letters", manifest)

    with pytest.raises(Usage) as refused:
        load(root, BUILTIN)

    assert "timeout_s" in refused.value.hint


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("def stamp(state, ctx): return Done()", "async def"),
        ("async def stamp(state): return Done()", "two values"),
        ("async def stamp(state, ctx, more): return Done()", "two values"),
        ("async def stamp(state, ctx): yield Done()", "yields"),
    ],
)
def test_what_is_no_stage_function_is_refused(
    tmp_path: Path, declared: str, said: str
) -> None:
    """Where it is loaded, with what to write; not by every item's five tries."""
    root = folder(tmp_path / "letters", 'name = "letters"\nstages = ["stamp"]\n')
    (root / "stamp.py").write_text(
        f"from pipeline.stage import Done, stage\n\n@stage()\n{declared}\n"
    )

    with pytest.raises(Usage) as refused:
        load(root, BUILTIN)

    assert said in refused.value.message
    assert "write `async def stamp(state, ctx)`" in refused.value.message


def test_a_folder_says_what_its_items_may_spend(tmp_path: Path) -> None:
    """Where it says nothing money is no object, and only a loop is bounded."""
    said = """
        name = "x"
        stages = ["ocr"]
        [budget]
        calls_max = 7
        item = "0.50 USD"
        when_used_up = "stop"
        """
    spent = load(folder(tmp_path / "x", said), BUILTIN).budget

    assert (spent.calls_max, str(spent.item), spent.batch) == (7, "0.50 USD", None)
    assert spent.when_used_up is WhenUsedUp.STOP
    assert WhenUsedUp("hold") is WhenUsedUp.WAIT  # of folders pinned before
    silent = folder(tmp_path / "y", "name = 'x'\nstages = ['ocr']")
    assert load(silent, BUILTIN).budget == Budget()
