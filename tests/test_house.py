"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("waybill", "pipeline", "stages", "ingest", "loadtest")
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# Where tasks may begin.  Everywhere else work is sequential, so that what is
# cancelled is cancelled as a whole.
TASKS_BEGIN = (
    "pipeline/run/session.py",  # one lease: its loops and its items
    "pipeline/run/supervisor.py",  # one keeper a process
    "stages/ocr.py",  # pages of one letter, bounded by the pool of children
    "ingest/admission.py",  # a few lanes of files
    "waybill/",  # commands that watch and work at the same time
    "loadtest/",
)
# Foreign code is run in these places alone, and whatever it raises ends in an error
# of ours: a disposition, an answer to the parent, a usage error.
ANYTHING_MAY_BE_RAISED = {
    "pipeline/run/session.py": 2,  # a stage; and the edge of the worker, around an item
    "pipeline/jail/program.py": 1,  # what a child was asked to run
    "pipeline/folder.py": 1,  # the top level of a custom stage
    "pipeline/store/embedded.py": 1,  # the database's wheel raises bare exceptions
}
EMPTY_NAMES = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "base",
    "manager",
    "misc",
}
STAGES = ("intake", "ocr", "moderation", "generation", "output")
HEADS = ["Reads", "Writes", "Steps", "Limits", "Ends"]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the packages, by its path."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    """Calls of `name` or of `anything.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if name in (getattr(called, "attr", None), getattr(called, "id", None)):
                yield node


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id == "Exception")
        for kind in kinds
    )


def test_there_is_something_to_check() -> None:
    """A moved folder must not turn the other tests into nothing."""
    assert len(modules()) > 50
    assert {path.split("/")[0] for path in modules()} == set(PACKAGES)


def test_every_module_says_what_it_is_for() -> None:
    """The docstring comes first."""
    silent = [
        p for p, tree in modules().items() if tree.body and not ast.get_docstring(tree)
    ]

    assert silent == []


def test_modules_can_be_read_in_one_sitting() -> None:
    """No file over 600 lines."""
    lengths = {
        p: len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in modules()
    }

    assert {p: n for p, n in lengths.items() if n > MODULE_LINES_MAX} == {}


def test_functions_fit_on_a_screen() -> None:
    """No function of 70 lines or more."""
    long = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 >= FUNCTION_LINES_MAX
    }

    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A module is named by what it knows, so that nothing is put there for want of
    a place."""
    parts = {p: set(Path(p).with_suffix("").parts) for p in modules()}

    assert [p for p, names in parts.items() if names & EMPTY_NAMES] == []


def test_tasks_begin_in_few_places() -> None:
    """Structured concurrency: a task group stands only where it is expected."""
    groups = [
        p for p, tree in modules().items() if list(calls(tree, "create_task_group"))
    ]

    assert "pipeline/run/session.py" in groups
    assert [p for p in groups if not p.startswith(TASKS_BEGIN)] == []


@pytest.mark.parametrize("name", ["create_task", "ensure_future", "spawn_system_task"])
def test_no_task_runs_on_its_own(name: str) -> None:
    """A task without a group outlives its owner and swallows its errors."""
    assert [p for p, tree in modules().items() if list(calls(tree, name))] == []


def test_whatever_is_raised_is_caught_in_few_places() -> None:
    """`except Exception` stands at the edges, where it ends in an error of ours."""
    found = {
        path: sum(
            isinstance(node, ast.ExceptHandler) and catches_everything(node)
            for node in ast.walk(tree)
        )
        for path, tree in modules().items()
    }

    assert {p: n for p, n in found.items() if n} == ANYTHING_MAY_BE_RAISED


def test_cancellation_is_never_swallowed() -> None:
    """Whoever catches BaseException raises again."""
    swallowed = [
        f"{path}:{node.lineno}"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "BaseException"
        and not any(isinstance(n, ast.Raise) for n in ast.walk(node))
    ]

    assert swallowed == []


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
