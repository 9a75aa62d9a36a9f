"""
Custom code: the Python files of a pipeline folder, in the worker and in the jail.

Both import a file from the pinned folder that it lies in, under a name of its own:
what a worker's stage asks for is what the jail runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple


class FileFunction(NamedTuple):
    """A module-level function of a file that `jailed` in `pipeline.toml` names."""

    file: Path
    name: str


def module_name(path: Path) -> str:
    """A name of its own a version: two versions of a stage live side by side."""
    unique = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    return f"{path.stem}_{unique}"


def import_file(path: Path) -> ModuleType:
    """
    Run a file's top level; raises whatever that raises.

    Raises:
        ImportError: no Python file has such a name.
    """
    if path.suffix != ".py":
        raise ImportError(f"{path.name} is no Python file")
    name = module_name(path)
    loader = _FromSource(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where annotations given as text look for names
    try:
        loader.exec_module(module)
    except BaseException:
        if sys.modules.get(name) is module:  # not a later one, which took its place
            del sys.modules[name]
        raise
    return module


class _FromSource(SourceFileLoader):
    """No compiled code from beside the file: no digest covers that."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def lies_within(file: Path, root: str) -> bool:
    """Whether a file lies beneath a folder, links followed; none is beneath ""."""
    return root != "" and file.resolve().is_relative_to(root)
