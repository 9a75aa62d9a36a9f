"""The rules that every call has: each place once, for each call pays for each rule."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.jail.landlock import LOOK, RUN, usual_rules


def rules(
    monkeypatch: pytest.MonkeyPatch, path: list[Path], packages: list[Path]
) -> dict[str, int]:
    """The rules beside those that every machine has."""
    profile = {"packages": [], "paths": []}
    monkeypatch.setenv("PATH", "")
    machine = usual_rules(profile)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)))
    found = usual_rules({**profile, "packages": list(map(str, packages))})
    assert len(dict(found)) == len(found)
    return dict(rule for rule in found if rule not in machine)


def test_a_place_within_another_has_no_rule_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a link, and named twice; one with more rights than its outer keeps it."""
    within, beside = tmp_path / "bin" / "within", tmp_path / "binary"
    for folder in (within, beside / "programs"):
        folder.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(within)
    path = [within.parent, within, link, within.parent, beside / "programs"]

    found = rules(monkeypatch, path, packages=[beside, within])

    assert found == {
        str(within.parent): RUN,
        str(beside): LOOK,
        str(beside / "programs"): RUN,
    }


def test_what_is_all_or_nothing_has_no_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root by any name, what is not there, and what depends on where one stands."""
    root = tmp_path / "root"
    root.symlink_to("/")

    assert not rules(monkeypatch, [root, tmp_path / "none", Path("bin"), Path("/")], [])
