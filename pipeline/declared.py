"""
What `pipeline.toml` may say.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.calls import UNBOUNDED, Budget
from pipeline.errors import Usage
from pipeline.faults import together
from pipeline.misfits import misfits_of
from pipeline.vendors.declared import VendorTerms
from pipeline.vendors.pacing import LimitSpec

MANIFEST = "pipeline.toml"
M = TypeVar("M", bound=BaseModel)


class _Branch(BaseModel):
    """`[branch.NAME]`: stages outside the main line, for children."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    stages: list[str] = Field(min_length=1, max_length=50)


class _Export(BaseModel):
    """`[export]`: what of an item's state stands in its row of an export."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    channels: list[str] = Field(default_factory=list, max_length=100)
    parts: bool = True  # whether what was found in an item has a row of its own


class Manifest(BaseModel):
    """What `pipeline.toml` may say."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")
    stages: list[str] = Field(min_length=1, max_length=50)
    deadline: str = "7d"
    state: str = ""
    jailed: list[str] = Field(default_factory=list, max_length=50)
    branch: dict[str, _Branch] = Field(default_factory=dict)
    stage: dict[str, dict[str, Any]] = Field(default_factory=dict)
    limit: dict[str, LimitSpec] = Field(default_factory=dict)
    budget: Budget = UNBOUNDED
    vendor: dict[str, VendorTerms] = Field(default_factory=dict, max_length=200)
    grant: dict[str, list[str]] = Field(default_factory=dict, max_length=1000)
    export: _Export = Field(default_factory=_Export)


def read_manifest(root: Path) -> Manifest:
    """
    The manifest of this folder.

    Raises:
        Usage: with the key and what it may be.
    """
    path = root / MANIFEST
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Usage(
            f"{root} is not a pipeline: it has no {MANIFEST}",
            hint="copy a folder of examples/ and change it",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Usage(f"{path} cannot be read: {error}") from None
    return fit(Manifest, raw, str(path))


def fit(
    model: type[M], raw: Mapping[str, Any], where: str, *, beside: Sequence[str] = ()
) -> M:
    """
    What stands at `where`, read as `model`; keys `beside` are known as well.

    Raises:
        Usage: with the key and what it may be.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        usual = "docs/pipelines.md has every key"
        faults = [
            Usage(f"{where}: {misfit.said}", hint=misfit.hint or usual)
            for misfit in misfits_of(error, model, beside)
        ]
        raise together(faults) from None
