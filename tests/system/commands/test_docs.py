"""What the documents say can be done, can be done; and nothing is left unsaid."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from loadtest.corpora.letters import demo_files
from loadtest.vendors.playing import Steered, playing
from pipeline.errors import WaybillError
from tests.system.command import ROOT, Home, Ran, pictures
from waybill.cli import EXIT_CODES, app

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"\bwaybill((?: [a-z]+){1,2})((?: [^`\n|;&#]*)?)")
# Said of the command in general or of a command that a pattern must not match.
NO_CALLS = {"is", "says", "has", "and", "does", "can", "never", "owner"}


class Described(NamedTuple):
    """What a command says of itself."""

    help: str
    options: set[str]


def commands() -> dict[str, Described]:
    """Every command a person sees."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Described]]:
        found = getattr(command, "commands", None)
        if found is None:
            options = {o for p in command.params for o in p.opts if o[:2] == "--"}
            yield name, Described((command.help or "").split("\n")[0], options)
            return
        for word, below in found.items():
            if not below.hidden:
                yield from walk(f"{name} {word}".strip(), below)

    return dict(walk("", typer.main.get_command(app)))


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Calls of the command in code, with their options."""
    code = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for words, rest in CALL.findall("\n".join(code)):
        yield words.strip(), re.findall(r"--[a-z][a-z-]*", rest)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists(path: Path):
    """Commands and options in code exist in the command line as it is."""
    known = commands()

    for words, options in calls(path.read_text(encoding="utf-8")):
        first, _, _ = words.partition(" ")
        if first in NO_CALLS:
            continue
        command = words if words in known else first
        group = any(name.startswith(f"{words} ") for name in known)
        assert command in known or group, f"waybill {words}"
        has = known[command].options if command in known else set()
        assert set(options) <= has | {"--help"}, words


def test_every_command_is_in_the_table():
    """docs/commands.md has each command, in the words of its own help."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")

    table = dict(re.findall(r"^\| `waybill ([a-z ]+)` \| (.*) \|$", text, re.MULTILINE))

    assert table == {name: described.help for name, described in commands().items()}


def test_the_stage_of_the_readme_runs(home: Home, tmp_path: Path):
    """Copied as it stands there: one file, one line, and the letter is loud."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [line] = re.findall(r"```toml\n(stages = .*?)\n```", text)
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "examples" / "letters", copy)
    (copy / "shout.py").write_text(code, encoding="utf-8")
    manifest = (copy / "pipeline.toml").read_text(encoding="utf-8")
    loud = re.sub(r"^stages = .*$", line, manifest, flags=re.MULTILINE)
    (copy / "pipeline.toml").write_text(loud, encoding="utf-8")
    letter = demo_files(tmp_path / "made", count=12)[0].path

    ran = home.run("ingest", letter, "--pipeline", copy, "--wait", "--json")

    item = ran.json()["files"][0]["item"]
    assert loud != manifest
    assert ran.code in (0, 5), ran  # moderation may look twice at capitals
    said = home.ok("items", "show", str(item), "--at", "shout")["state"]["text"]
    assert said
    assert said == said.upper()


def test_the_stage_that_asks_runs(home: Home, tmp_path: Path):
    """Copied as it stands in docs/signals.md, with the commands below it."""
    text = (ROOT / "docs" / "signals.md").read_text(encoding="utf-8")
    code, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [manifest] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    [lines] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "asking"
    folder.mkdir()
    (folder / "proof.py").write_text(code, encoding="utf-8")
    (folder / "pipeline.toml").write_text(manifest, encoding="utf-8")
    [letter] = pictures(tmp_path, ["letter.png"])

    said = []
    for line in lines.splitlines():
        words = shlex.split(line, comments=True)[1:]
        there = {"asking": str(folder)}
        if words[0] == "ingest":
            there["letter.png"] = str(letter)
        said.append(home.run(*[there.get(word, word) for word in words]))

    assert [ran.code for ran in said] == [5, 0, 0, 0]
    assert "it waits for the signal proof-read" in said[1].out
    assert home.ends() == {"done": 1}


def test_every_exit_code_is_documented():
    """docs/commands.md and `--help` list the same codes, and errors use no others."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")

    table = {int(n) for n in re.findall(r"^\| (\d+) \| .+ \|$", text, re.MULTILINE)}

    assert table == set(EXIT_CODES)
    assert {error.exit_code for error in errors(WaybillError)} <= table


def errors(kind: type[WaybillError]) -> Iterator[type[WaybillError]]:
    """This class of errors and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from errors(below)


def test_the_recipe_of_agents_runs(home: Home, tmp_path: Path):
    """Its files and commands as they stand there; only the port is another."""
    with recipe(home, tmp_path, "agents.md", "tickets") as (vendors, ran):
        codes = {command: each.code for command, each in ran.items()}

        assert codes.pop("doctor") == 0, ran["doctor"].out
        assert list(codes.values()) == [5, 0, 0, 0], ran
        assert "c2_1" in ran["review show"].out
        assert "item 1 is done" in ran["review rule"].err
        assert "confirmed" in ran["effects ls"].out
        assert vendors.counts("crm")["taken"] == 1


def test_the_recipe_of_vendors_runs(home: Home, tmp_path: Path):
    """A model that is down, the one in its place, a budget, and a record once."""
    with recipe(home, tmp_path, "vendors.md", "leads") as (vendors, ran):
        assert {each.code for each in ran.values()} == {0}, ran
        assert "llm-elsewhere" in ran["items show"].out
        assert "\t20.00\t0.0002" in ran["budgets show"].out
        assert "vendor/llm/requests" in ran["limits ls"].out
        assert "confirmed" in ran["effects ls"].out
        assert vendors.counts("llm-elsewhere")["billed"] == 1
        assert vendors.counts("crm")["taken"] == 1


@contextmanager
def recipe(
    home: Home, folder: Path, page: str, pipeline: str
) -> Iterator[tuple[Steered, dict[str, Ran]]]:
    """The files of a page's recipe, and what each of its commands said."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    _, _, section = text.partition("## From an empty folder")
    file = r"\*\*`([^`\n]+)`\*\*[^\n]*\n\n```\w+\n(.*?)```"
    made = dict(re.findall(file, section, re.DOTALL))
    [shell] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    with playing(tomllib.loads(made["world.toml"])["vendor"]) as vendors:
        port = vendors.shown["url"].rpartition(":")[2]
        for name, content in made.items():
            at_home = name.startswith("home/secrets/")
            path = home.folder / name[5:] if at_home else folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace(":8808/", f":{port}/"), encoding="utf-8")
        around = {
            "PIPELINES": str(folder / "pipelines"),
            "PIPELINE": pipeline,
            "VENDORS": str(folder / "home" / "vendors.toml"),
        }
        ran = {}
        for line in re.findall(r"^waybill ([^#\n]+)", shell, re.MULTILINE):
            words = [str(folder / w) if w in made else w for w in shlex.split(line)]
            ran[" ".join(words[:2])] = home.run(*words, **around)
        yield vendors, ran
