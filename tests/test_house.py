"""The rules of the house that a machine can check: rooms, words, bounds, edges."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("waybill", "pipeline", "stages", "ingest", "loadtest")
STAGES = ("intake", "ocr", "moderation", "generation", "output", "searchable")

# Rooms, and modules beside them: what fits nowhere asks for a room, and an entry here.
ROOMS = {
    "waybill": {"commands", "desk", "evals"},
    "pipeline": {"agents", "artifacts", "effects", "holds"}
    | {"jail", "run", "store", "vendors"},
    "stages": {"abstracts", "clauses", "enquiries", "fitting", "formats", "quoting"}
    | {"reading", "rules", "writing", "printing", "publishing"},
    "ingest": {"http", "watch"},
    "loadtest": {"scenarios", "corpora", "hostile", "bench", "vendors"}
    | {"simulation", "mutants", "checker", "driver", "report"},
}
ON_TOP = {
    "waybill": {
        *("__main__", "cli", "compose", "logs", "settings"),
        *("board", "callbacks", "database", "exporting", "foreground", "health"),
        "inbox",
        *("manifest", "outside", "pace", "results", "terminal"),
    },
    "pipeline": {
        *("bound", "calls", "cancellation", "loading", "names", "outbox"),
        *("lapse", "pinned", "proof", "stage"),
        *("declared", "folder", "messages", "model", "reducers", "threads", "trouble"),
        *("doubles", "errors", "misfits", "signals", "signatures", "state", "testing"),
        *("checking", "faults", "parts", "proc", "purse", "spoken"),
    },
    "stages": {*STAGES, "document", "layout"},
    "ingest": {
        *("admission", "afterwards", "answers", "candidates"),
        *("copying", "shelf", "signals", "writers"),
    },
    "loadtest": {"__main__", "adding", "benches", "proving"}
    | {"runs", "showing", "trial"},
}
TESTS = {"store", "hostile", "system", "unit"}  # kinds; rooms inside them

MODULE_LINES_MAX = 400
# Written before that bound.  Each may shrink and none may grow, and none may come.
LONGER = {
    "ingest/admission.py": 477,
    "loadtest/corpora/letters.py": 560,
    "loadtest/hostile/bundles.py": 525,
    "loadtest/hostile/pdfs.py": 514,
    "loadtest/scenarios/hostile.py": 478,
}
TEST_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# Where tasks may begin.  Everywhere else work is sequential, so that what is
# cancelled is cancelled as a whole.
TASKS_BEGIN = (
    "pipeline/run/session.py",  # one lease: its loops and its items
    "pipeline/vendors/limits.py",  # of a lease's limits: who asks, and a task a line
    "pipeline/agents/runner.py",  # tools that one answer calls, a few at once
    "pipeline/run/supervisor.py",  # one keeper a process
    "stages/ocr.py",  # pages of one letter, bounded by the pool of jailed processes
    "ingest/admission.py",  # a few lanes of files
    "ingest/http/server.py",  # one a connection, bounded in number and time
    "waybill/",  # commands that watch and work at the same time
    "loadtest/",
)
# Foreign code is run in these places alone; what it raises becomes an error of ours.
ANYTHING_MAY_BE_RAISED = {
    "pipeline/run/carry.py": 1,  # the edge of the worker, around an item
    "pipeline/jail/program.py": 1,  # what a jailed process was asked to run
    "ingest/http/server.py": 1,  # the edge of a connection, beside those of workers
    "pipeline/effects/courier.py": 1,  # a sink, around what one call carries
    "loadtest/simulation/history.py": 1,  # whatever escaped a worker is a finding
    "pipeline/checking.py": 1,  # a stage's check of its files, for its author
    "pipeline/loading.py": 1,  # whatever loading a pipeline raises, for who waits
}
# The environment is read once, by `Settings`; and where a process is handed its
# surroundings by the one that started it.
ENVIRONMENT = {
    "waybill/settings.py",
    "pipeline/run/spare.py",  # the worker it starts, and whose it is
    "pipeline/jail/process.py",  # what a jailed process is given of it …
    "pipeline/jail/jail.py",  # … and what it finds there
    "pipeline/jail/program.py",
    "pipeline/jail/jailbreak.py",
    "pipeline/jail/landlock.py",
    "pipeline/doubles.py",  # plays the jail's part for a function that leaves files
    "stages/formats/bundle.py",
    "stages/printing/fonts.py",
    *("stages/printing/proofs.py", "stages/printing/typesetter.py"),
    "stages/publishing/making.py",  # where it leaves its files
    *("stages/abstracts/reading.py", "stages/abstracts/sheet.py"),
    "stages/quoting/sheet.py",
    "stages/reading/tesseract.py",
    "loadtest/",
}
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "manager"}
EMPTY_NAMES |= {"misc"}
HEADS = ["Reads", "Writes", "Steps", "Limits", "Ends"]

# What a document is made of.  The engine moves items: it would not know a page.
DOCUMENT_WORDS = re.compile(
    r"(?<![a-z])(pages?|pdfs?|ocr|letters?|docx|eml|dpi|pixels?|tesseract|glyphs?"
    r"|print(?:ed|ing)|handwrit\w+|scanned)(?![a-z])",
    re.IGNORECASE,
)
# Pages of another kind: of memory, of a disk, of a vendor's web site.
OTHER_PAGES = re.compile(r"(?:move|migrate)_pages|random_page_cost|status page")

# Where vendors' shapes are told apart, one of which is called so.
KIND_IS_NAMED = (
    "pipeline/calls.py",
    "pipeline/vendors/asking.py",
    "pipeline/vendors/usage.py",
)

# Words that once meant two things or more, and where the one that is left may stand.
# Names are looked at, not prose.
ONE_MEANING = {
    r"child(ren|_.*)?": ("pipeline/", "waybill/", "loadtest/", "stages/intake.py"),
    r"(.*_)?door": ("pipeline/", "waybill/", "loadtest/bench/"),
    r"(.*_)?patient": (),
    r"(.*_)?told": (),
    r"(.*_)?judged": (),
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the packages, by its path."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def length(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of every module, with its path: many tests look at all of them."""
    return [(p, node) for p, tree in modules().items() for node in ast.walk(tree)]


def calls(node: ast.AST, name: str) -> bool:
    """Whether this is a call of `name` or of `anything.name`."""
    if not isinstance(node, ast.Call):
        return False
    return name in (getattr(node.func, "attr", None), getattr(node.func, "id", None))


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """The nodes that are docstrings."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }


@cache
def names() -> list[tuple[str, int, str]]:
    """Names that the code gives: definitions, parameters, attributes, variables."""
    return [(p, line, name) for p, node in nodes() for line, name in given(node)]


def given(node: ast.AST) -> Iterator[tuple[int, str]]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.lineno, node.name
        case ast.arg():
            yield node.lineno, node.arg
        case ast.Name(ctx=ast.Store()):
            yield node.lineno, node.id
        case ast.Attribute(ctx=ast.Store()):
            yield node.lineno, node.attr
        case _:
            pass


# -- rooms ----------------------------------------------------------------------------


def test_there_is_something_to_check() -> None:
    """A moved folder must not turn the other tests into nothing."""
    assert len(modules()) > 100
    assert {path.split("/")[0] for path in modules()} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_holds_its_rooms_and_little_beside_them(package: str) -> None:
    """On top of `stages/` stand the stages and their state, and nothing else."""
    inside = [
        Path(p).relative_to(package).parts
        for p in modules()
        if p.startswith(package + "/")
    ]

    rooms = {parts[0] for parts in inside if len(parts) > 1}
    top = {parts[0].removesuffix(".py") for parts in inside if len(parts) == 1}

    assert top - {"__init__"} == ON_TOP[package]
    runs = ("chaos", "effects", "evil", "lies", "outage", "trouble", "zero")
    assert rooms - {f"{run}_pipeline" for run in runs} == ROOMS[package]


def test_no_room_stands_empty() -> None:
    """A room opens with its first file."""
    rooms = {Path(p).parent for p in modules()}
    filled = {
        Path(p).parent
        for p, tree in modules().items()
        if Path(p).name != "__init__.py" or len(tree.body) > 1
    }
    above = {parent for room in filled for parent in room.parents}

    assert rooms - filled - above == set()


def test_tests_mirror_the_rooms() -> None:
    """A room's tests are found under its name, by kind."""
    known = (
        {room for rooms in ROOMS.values() for room in rooms} | set(PACKAGES) | {"layer"}
    )
    folders = [
        p.parent.relative_to(ROOT / "tests").parts
        for p in (ROOT / "tests").rglob("test_*.py")
    ]

    assert {parts[0] for parts in folders if parts} <= TESTS
    assert {room for parts in folders for room in parts[1:]} <= known


# -- bounds ---------------------------------------------------------------------------


def test_every_module_says_what_it_is_for() -> None:
    """The docstring comes first."""
    silent = [
        p for p, tree in modules().items() if tree.body and not ast.get_docstring(tree)
    ]

    assert silent == []


def test_modules_can_be_read_in_one_sitting() -> None:
    """No file over 400 lines; of the few older ones that are, none grows."""
    lengths = {path: length(path) for path in modules()}

    long = {p: n for p, n in lengths.items() if n > MODULE_LINES_MAX}
    assert {p: n for p, n in long.items() if n > LONGER.get(p, MODULE_LINES_MAX)} == {}
    assert set(LONGER) == set(long), "a file that has become short leaves the list"
    assert max(LONGER.values()) <= 600


def test_a_file_of_tests_can_be_read_too() -> None:
    """No file of tests over 600 lines."""
    lengths = {
        p.relative_to(ROOT).as_posix(): length(str(p))
        for p in (ROOT / "tests").rglob("*.py")
    }

    assert {p: n for p, n in lengths.items() if n > TEST_LINES_MAX} == {}


def test_functions_fit_on_a_screen() -> None:
    """No function of 70 lines or more."""
    long = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 >= FUNCTION_LINES_MAX
    }

    assert long == {}


# -- words ----------------------------------------------------------------------------


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A module is named by what it knows, so that nothing is put there for want of
    a place."""
    parts = {p: set(Path(p).with_suffix("").parts) for p in modules()}

    assert [p for p, found in parts.items() if found & EMPTY_NAMES] == []


def test_the_engine_knows_no_document() -> None:
    """No name, no text and no SQL of `pipeline/` speaks of what a document holds."""
    ours = [tree for p, tree in modules().items() if p.startswith("pipeline/")]
    prose = set[ast.AST]().union(*map(docstrings, ours))
    texts = [
        (path, node.lineno, node.value)
        for path, node in nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in prose
    ]
    found = [
        f"{path}:{line}: {text[:60]!r}"
        for path, line, text in [*names(), *texts]
        if path.startswith("pipeline/")
        and DOCUMENT_WORDS.search(OTHER_PAGES.sub("", text).replace("_", " "))
        and not (text == "ocr" and path in KIND_IS_NAMED)  # a kind
    ]
    found += [
        f"{sql.relative_to(ROOT)}: {word.group()}"
        for sql in (ROOT / "pipeline").rglob("*.sql")
        for word in DOCUMENT_WORDS.finditer(
            re.sub(r"--.*", "", sql.read_text(encoding="utf-8")).replace("_", " ")
        )
    ]

    assert found == []


@pytest.mark.parametrize("word", ONE_MEANING)
def test_one_word_has_one_meaning(word: str) -> None:
    """A name that once meant several things stands only where it means the one."""
    strangers = [
        f"{path}:{line}: {name}"
        for path, line, name in names()
        if not path.startswith(ONE_MEANING[word])
        and re.fullmatch(word, name.lstrip("_"), re.IGNORECASE)
    ]

    assert strangers == []


def test_a_jailed_process_is_no_child() -> None:
    """A child is an item found in another, also in prose, settings and messages."""
    places = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    places += [ROOT / path for path in modules()]
    wrong = re.compile(r"[Cc]hild(ren)? process|[Jj]ailed child|\bCHILD_[A-Z]")

    assert [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in places
        for found in wrong.finditer(" ".join(path.read_text(encoding="utf-8").split()))
    ] == []


# -- unions ---------------------------------------------------------------------------


def test_every_match_is_matched_to_its_end() -> None:
    """No value falls through a `match`: the last case takes whatever is left."""
    open_ended = [
        f"{path}:{node.lineno}"
        for path, node in nodes()
        if isinstance(node, ast.Match) and not takes_the_rest(node.cases[-1])
    ]

    assert open_ended == []


def test_every_union_ends_in_assert_never() -> None:
    """A new outcome, move or state is a type error wherever it is forgotten."""
    found = 0
    forgotten = []
    for path, node in nodes():
        if not isinstance(node, ast.Match) or not names_ours(node):
            continue
        found += path.startswith("pipeline/")
        if not any(calls(part, "assert_never") for part in ast.walk(node.cases[-1])):
            forgotten.append(f"{path}:{node.lineno}")

    assert forgotten == []
    assert found >= 4


def takes_the_rest(case: ast.match_case) -> bool:
    pattern = case.pattern
    return (
        case.guard is None
        and isinstance(pattern, ast.MatchAs)
        and pattern.pattern is None
    )


@cache
def closed() -> tuple[set[str], set[str]]:
    """Classes that are members of a union of ours, and enums of ours."""
    members: set[str] = set()
    enums: set[str] = set()
    for tree in modules().values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
                parts = ast.walk(node.value)
                members |= {part.id for part in parts if isinstance(part, ast.Name)}
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                if bases & {"Enum", "StrEnum"}:
                    enums.add(node.name)
    return members, enums


def names_ours(node: ast.Match) -> bool:
    """Whether a `match` tells members of a union or an enum of ours apart."""
    members, enums = closed()
    for case in node.cases:
        for part in ast.walk(case.pattern):
            if isinstance(part, ast.MatchClass) and ast.unparse(part.cls) in members:
                return True
            if (
                isinstance(part, ast.MatchValue)
                and isinstance(part.value, ast.Attribute)
                and ast.unparse(part.value.value) in enums
            ):
                return True
    return False


# -- edges ----------------------------------------------------------------------------


def test_tasks_begin_in_few_places() -> None:
    """Structured concurrency: a task group stands only where it is expected."""
    groups = {p for p, node in nodes() if calls(node, "create_task_group")}

    assert "pipeline/run/session.py" in groups
    assert [p for p in groups if not p.startswith(TASKS_BEGIN)] == []


def test_threads_begin_in_one_place() -> None:
    """In the line that stages cannot fill."""
    texts = {p: (ROOT / p).read_text(encoding="utf-8") for p in modules()}
    found = [p for p, text in texts.items() if "to_thread" in text]
    found = [p for p in found if "to_thread" in ast.unparse(modules()[p])]
    ours = [p for p in found if not p.startswith("loadtest/")]
    assert ours == ["pipeline/threads.py"]


@pytest.mark.parametrize("name", ["create_task", "ensure_future", "spawn_system_task"])
def test_no_task_runs_on_its_own(name: str) -> None:
    """A task without a group outlives its owner and swallows its errors."""
    # A worker in the foreground may have to be left behind; a group would wait for it.
    alone = {"create_task": ["waybill/foreground.py"]}.get(name, [])
    assert sorted({p for p, node in nodes() if calls(node, name)}) == alone


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id == "Exception")
        for kind in kinds
    )


def test_whatever_is_raised_is_caught_in_few_places() -> None:
    """`except Exception` stands at the edges, where it ends in an error of ours."""
    found = Counter(
        path
        for path, node in nodes()
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    )

    assert found == ANYTHING_MAY_BE_RAISED


def test_cancellation_is_never_swallowed() -> None:
    """Whoever catches BaseException raises again."""
    swallowed = [
        f"{path}:{node.lineno}"
        for path, node in nodes()
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "BaseException"
        and not any(isinstance(n, ast.Raise) for n in ast.walk(node))
    ]

    assert swallowed == []


def test_the_environment_is_read_in_one_place() -> None:
    """`Settings` reads it; a stage, a command or the engine is handed what it needs."""
    readers = {
        path
        for path, node in nodes()
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"))
        or (isinstance(node, ast.Name) and node.id in ("environ", "getenv"))
    }

    assert {p for p in readers if not p.startswith(tuple(ENVIRONMENT))} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_docstring_is_its_contract(stage: str) -> None:
    """What goes in, what comes out, what is kept, what bounds it, how it ends."""
    text = ast.get_docstring(modules()[f"stages/{stage}.py"]) or ""

    heads = [
        line.split()[0]
        for line in text.splitlines()
        if line and line.split()[0] in HEADS
    ]

    assert heads == HEADS
    assert text.splitlines()[0].lower().startswith(f"{stage}:")


# -- the ways through it ---------------------------------------------------------------

STEP = re.compile(r"^(\d+)\. `([\w/]+\.py)` `([\w.]+)`", re.MULTILINE)


def ways() -> dict[str, list[str]]:
    """The lists of docs/house.md, line by line, by their headings."""
    page = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    found = {part.splitlines()[0]: part.splitlines()[1:] for part in parts}
    return {name: lines for name, lines in found.items() if name.startswith("The way")}


def definition(path: str, name: str) -> ast.AST | None:
    """The function or method `name` of a module."""
    here: ast.AST | None = modules().get(path)
    for part in name.split("."):
        here = next(
            (
                node
                for node in getattr(here, "body", ())
                if getattr(node, "name", None) == part
            ),
            None,
        )
    return here


def mentions(node: ast.AST, name: str) -> bool:
    """Whether code speaks of `name`, by itself or as an attribute."""
    return any(
        name in (getattr(part, "id", None), getattr(part, "attr", None))
        for part in ast.walk(node)
    )


@pytest.mark.parametrize("way", sorted(ways()))
def test_a_way_can_be_read_in_order(way: str) -> None:
    """Every function exists, and one before it calls it, or it is handed over."""
    before: list[ast.AST] = []
    handed = True  # the first one is where the reader begins
    numbers = []
    for line in ways()[way]:
        handed = handed or line.startswith("> ")
        step = STEP.match(line)
        if step is None:
            assert not re.match(r"\d+\.", line), f"no function: {line}"
            continue
        number, path, name = step.groups()
        node = definition(path, name)
        assert node is not None, f"{path} has no {name}"
        called = any(mentions(other, name.split(".")[-1]) for other in before)
        assert called or handed, f"nobody before {path} {name} calls it"
        before.append(node)
        handed = False
        numbers.append(int(number))

    assert len(numbers) > 10
    assert numbers == list(range(1, len(numbers) + 1))


def test_nothing_is_decided_twice() -> None:
    """What docs/house.md says is asked in one place is asked there alone."""
    page = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| [^|`]+ \| `(\w+)` \| `([\w/.]+)` \| (.+) \|$", page, re.MULTILINE
    )

    read = {
        (path, node.id)
        for path, node in nodes()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }

    assert len(rows) > 10
    for name, home, places in rows:
        assert name in (ROOT / home).read_text(encoding="utf-8"), (name, home)
        found = {path for path, there in read if there == name}
        asked = {path for path in found if not path.startswith("loadtest/")}
        assert asked == set(re.findall(r"`([\w/.]+)`", places)), name
