"""
Pipelines are folders: `pipeline.toml`, and the prompts, rules, templates and
custom stages beside it.

A folder is pinned when something is submitted to it: its files go to the artifact
store, its version is their digest, and an item keeps the version that it began
with, on every machine, whatever happens to the folder afterwards.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType

import anyio
from pydantic import BaseModel

from pipeline.agents.grants import agents_of, check_grants
from pipeline.bound import BoundStage, bind, seconds
from pipeline.calls import UNBOUNDED, Budget
from pipeline.declared import MANIFEST, Manifest, read_manifest
from pipeline.errors import Usage
from pipeline.faults import Faults
from pipeline.jail.custom import import_file, module_name
from pipeline.loading import IMPORT_S, WORK_S, Loads, importing
from pipeline.pinned import Kept, Pins, list_files, version_named, version_of
from pipeline.stage import Stage
from pipeline.state import Channels
from pipeline.store.port import AdmissionStore, WorkStore
from pipeline.threads import in_thread
from pipeline.trouble import trouble_of
from pipeline.vendors.declared import VendorTerms
from pipeline.vendors.pacing import LimitSpec

TRIES = 3  # arbitrary: somebody may be saving a file just now


class PipelineFolder:
    """Read access to the files of one version; never outside its root."""

    def __init__(self, root: Path, name: str, version: str) -> None:
        self.root = root
        self.name = name
        self.version = version
        self._texts: dict[str, str] = {}  # files of a version do not change

    def __repr__(self) -> str:
        return f"<PipelineFolder {self.name}@{self.version}>"

    def text(self, relative: str) -> str:
        """
        A UTF-8 file, read once.

        Raises:
            Usage: it is missing, outside, or no UTF-8.
        """
        if relative in self._texts:
            return self._texts[relative]
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise Usage(f"{relative!r} lies outside the pipeline {self.name}")
        try:
            text = self._texts[relative] = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise Usage(
                f"the pipeline {self.name} has no file {relative!r}",
                hint="add it beside pipeline.toml, or change the setting naming it",
            ) from None
        except UnicodeDecodeError:
            raise Usage(
                f"{relative!r} of the pipeline {self.name} is no UTF-8",
                hint="save it as UTF-8",
            ) from None
        return text

    def files(self, pattern: str) -> list[Path]:
        """Files matching a glob, sorted."""
        return sorted(p for p in self.root.glob(pattern) if p.is_file())

    def texts(self, pattern: str) -> dict[str, str]:
        """The texts of these files, by their path in the folder; raises as `text`."""
        names = [p.relative_to(self.root).as_posix() for p in self.files(pattern)]
        return {name: self.text(name) for name in names}


@dataclass(frozen=True)
class Pipeline:
    """
    One version of a pipeline, ready to run.

    Attributes:
        stages: Of the main line, in order; then those of the branches.
        branches: Name of a branch -> its first stage.
        jailed: Name of a module -> its file, whose functions may run in the jail.
        exports: Channels, or keys of them (`reply.writer`), that an export shows.
        exports_parts: Whether what was found in an item has rows of its own there.
        budget: How often its items may call vendors, and for how much.
        vendors: Tighter terms on which its items call a vendor, by its name.
        grants: Tools that agents may call, by `tenant/stage/agent`.
    """

    folder: PipelineFolder
    stages: Mapping[str, BoundStage]
    channels: Channels
    deadline_s: float
    limits: Mapping[str, LimitSpec]
    branches: Mapping[str, str] = field(default_factory=dict)
    jailed: Mapping[str, Path] = field(default_factory=dict)
    exports: Sequence[str] = ()
    exports_parts: bool = True
    budget: Budget = UNBOUNDED
    vendors: Mapping[str, VendorTerms] = field(default_factory=dict)
    grants: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @cached_property
    def first(self) -> str:
        """The stage where items begin."""
        return next(iter(self.stages))


class Builtin:
    """What a pipeline may name without having it in its folder."""

    def __init__(self, stages: Mapping[str, Stage], state: type[BaseModel]) -> None:
        self.stages = stages
        self.state = state


def load(root: Path, builtin: Builtin) -> Pipeline:
    """
    Read and check a pipeline folder: `Loads` calls it aside, for it runs its files.

    Raises:
        Usage: with the file, the key and what it may be; of several faults the first,
            the others beside it.
    """
    manifest = read_manifest(root)
    folder = PipelineFolder(root, manifest.name, version_of(list_files(root)))
    faults = Faults()
    bound = _bind_all(root, manifest, builtin, faults)
    agents = {name: agents_of(one.stage.run) for name, one in bound.items()}
    if not faults.found:  # else a stage that is not there has no agents either
        with faults.gathered():
            check_grants(manifest.grant, agents, str(root / MANIFEST))
    for agent in (each for own in agents.values() for each in own):
        with faults.gathered():
            folder.text(agent.prompt)  # that it is there
    with faults.gathered():
        deadline_s = seconds(manifest.deadline, f"{root / MANIFEST}: deadline")
    with faults.gathered():
        jailed = _find_jailed(root, manifest.jailed)
    with faults.gathered():
        channels = Channels(_find_state(root, manifest.state, builtin))
        exports = _find_exports(root, manifest.export.channels, channels)
    faults.end()
    return Pipeline(
        folder=folder,
        stages=bound,
        channels=channels,
        deadline_s=deadline_s,
        limits=manifest.limit,
        budget=manifest.budget,
        vendors=manifest.vendor,
        grants=manifest.grant,
        branches={name: b.stages[0] for name, b in manifest.branch.items()},
        jailed=jailed,
        exports=exports,
        exports_parts=manifest.export.parts,
    )


def _bind_all(
    root: Path, manifest: Manifest, builtin: Builtin, faults: Faults
) -> dict[str, BoundStage]:
    """The stages of all lines, but for those that have a fault."""
    lines = _lines(manifest)
    with faults.gathered():
        _check_lines(root, lines, manifest)
    # Children are further along than what they were found in: finish what is begun.
    bound: dict[str, BoundStage] = {}
    for line in lines:
        for name, after in zip(line, [*line[1:], ""], strict=True):
            with faults.gathered():
                stage = _find_stage(root, name, builtin)
                bound[name] = bind(root, stage, manifest, after, len(bound))
    return bound


def _lines(manifest: Manifest) -> list[list[str]]:
    """The main line, then the branches."""
    return [manifest.stages, *(b.stages for b in manifest.branch.values())]


def _check_lines(root: Path, lines: list[list[str]], manifest: Manifest) -> None:
    """Each stage stands in one of them, once, and no settings are of another."""
    faults = Faults()
    names = [name for line in lines for name in line]
    faults.found += [
        Usage(
            f"{root / MANIFEST}: the stage {name!r} is named twice",
            hint="a stage stands once, in `stages` or in one [branch.NAME]",
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    faults.found += [
        Usage(
            f"{root / MANIFEST}: [stage.{name}] is not in `stages`",
            hint=f"`stages` are {', '.join(names)}",
        )
        for name in sorted(set(manifest.stage) - set(names))
    ]
    faults.end()


class Catalogue:
    """
    Publishes folders and brings back the versions that items began with.

    Args:
        cache: Folder where pinned versions are laid out again.
    """

    def __init__(self, artifacts: Kept, cache: Path, builtin: Builtin) -> None:
        self._pins = Pins(artifacts, cache)
        self._loads = loads_of(builtin)
        self._loaded: dict[int, Pipeline] = {}
        self._turns: dict[int, anyio.Lock] = {}  # who comes first loads it for all

    async def adopt(self, store: WorkStore) -> None:
        """Take over what an earlier version published; see `Pins.adopt`."""
        if not self._pins.adopted:
            self._pins.adopt(await store.pipelines())

    async def publish(self, root: Path, store: AdmissionStore) -> tuple[int, Pipeline]:
        """
        Pin the folder as it stands; returns its id and the loaded pipeline.

        Raises:
            Usage: it is not in order; PIPELINE_HANGS, a file of it takes too long
                to import.
        """
        for _ in range(TRIES):
            version = await in_thread(lambda: version_of(list_files(root)))
            pipeline = await self._loads.wait(root, version, IMPORT_S)
            files = await self._pins.keep(pipeline.name, list_files(root))
            if version_named(files) == pipeline.folder.version:
                break
            self._loads.forget(root)
        else:
            raise Usage(f"{root} changes while it is read", hint="try again")
        number = await store.register_pipeline(
            pipeline.name, pipeline.folder.version, list(pipeline.stages), files
        )
        return number, pipeline

    async def get(
        self, number: int, store: WorkStore, patience_s: float = WORK_S
    ) -> Pipeline:
        """
        A pinned version, from memory or laid out and proven.

        Raises:
            Integrity: it is not what was published; see `Pins.lay_out`.
            Usage: PIPELINE_HANGS, it was not imported in `patience_s`.
        """
        if number in self._loaded:
            return self._loaded[number]
        async with self._turns.setdefault(number, anyio.Lock()):
            if number not in self._loaded:
                root = await self._pins.lay_out(await store.pipeline(number))
                self._loaded[number] = await self._loads.wait(
                    root, str(number), patience_s
                )
        return self._loaded[number]


def loads_of(builtin: Builtin) -> Loads[Pipeline]:
    """Pipelines as folders hold them now, each version imported once, aside."""
    return Loads(partial(load, builtin=builtin))


def top_levels(root: Path) -> list[Path]:
    """The files of a folder that `load` runs; raises as it does."""
    manifest = read_manifest(root)
    named = [name for line in _lines(manifest) for name in line]
    named += ["state"] * bool(manifest.state)
    return [path for name in named if (path := root / f"{name}.py").is_file()]


def _find_stage(root: Path, name: str, builtin: Builtin) -> Stage:
    path = root / f"{name}.py"
    if path.exists():
        found = getattr(_import(path), name, None)
        if not isinstance(found, Stage):
            raise Usage(f"{path} defines no @stage named {name!r}")
        return found
    if name in builtin.stages:
        return builtin.stages[name]
    raise Usage(
        f"{root / MANIFEST}: there is no stage {name!r}",
        hint=f"write {path.name} beside it, or use one of "
        f"{', '.join(sorted(builtin.stages))}",
    )


def _find_state(root: Path, name: str, builtin: Builtin) -> type[BaseModel]:
    if not name:
        return builtin.state
    found = getattr(_import(root / "state.py"), name, None)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise Usage(f"{root / 'state.py'} defines no pydantic model {name!r}")
    return found


def _find_jailed(root: Path, names: Sequence[str]) -> dict[str, Path]:
    files = [root / f"{name}.py" for name in names]
    faults = Faults()
    faults.found += [
        Usage(
            f"{root / MANIFEST}: jailed: there is no file '{name}.py'",
            hint="it names .py files beside pipeline.toml, without the suffix",
        )
        for name, path in zip(names, files, strict=True)
        if not name.isidentifier() or not path.is_file()
    ]
    faults.end()
    return {module_name(path): path for path in files}


def _find_exports(root: Path, paths: Sequence[str], channels: Channels) -> list[str]:
    known = channels.model.model_fields
    faults = Faults()
    faults.found += [
        Usage(
            f"{root / MANIFEST}: [export] channels: there is no channel {path!r}",
            hint=f"its channels: {', '.join(known)}; a key of one is CHANNEL.KEY",
        )
        for path in paths
        if path.partition(".")[0] not in known or not all(path.split("."))
    ]
    faults.end()
    return list(dict.fromkeys(paths))


def _import(path: Path) -> ModuleType:
    try:
        with importing(path):
            return import_file(path)
    except FileNotFoundError:
        raise Usage(f"{path} is missing") from None
    except BaseException as error:
        if (ours := trouble_of(error)) is not None:
            raise ours from None
        # Its top level is foreign code: whatever it raises, the file is to blame, also
        # where it would end the process.
        why = type(error).__name__
        if isinstance(error, Exception):
            why += f": {error}"
        hint = f"line {line} of it" if (line := _line_of(error, path)) else ""
        raise Usage(f"{path} cannot be imported: {why}", hint=hint) from None


def _line_of(error: BaseException, path: Path) -> int | None:
    """Where in this file it was raised, or what was called there raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return lines[-1] if lines else None
