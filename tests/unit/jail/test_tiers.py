"""A jail is called no better than it is, and what the kernel lacks is named."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from pipeline.jail import jail, landlock, syscalls

ALL = {"landlock": 7, "seccomp": True}
ALL |= {"namespaces": True, "alone": True, "bounded": True}


@pytest.mark.parametrize(
    ("lacks", "tier"),
    [
        ("", 3),
        ("namespaces", 2),
        ("alone", 2),
        ("bounded", 2),
        ("landlock", 1),
        ("seccomp", 1),
    ],
)
def test_a_tier_is_had_when_nothing_of_it_is_missing(lacks: str, tier: int) -> None:
    """A container that forbids mounts alone leaves no tier 3."""
    assert jail.tier_of({**ALL, lacks: 0}) == tier


def test_what_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wall by itself, with the kernel's reason."""

    def none() -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(landlock, "abi", none)
    monkeypatch.setattr(syscalls, "filters", lambda: None)
    assert jail.refused_here() == {"files": "Function not implemented"}
    monkeypatch.setattr(landlock, "abi", lambda: 7)
    monkeypatch.setattr(syscalls, "filters", none)
    assert jail.refused_here() == {"system calls": "Function not implemented"}


@pytest.mark.parametrize(
    ("met", "named"), [(errno.EFAULT, False), (errno.EINVAL, True)]
)
def test_a_filter_from_nowhere_tells_whether_there_is_seccomp(
    monkeypatch: pytest.MonkeyPatch, met: int, named: bool
) -> None:
    """A kernel that has it looks at the filter first."""
    monkeypatch.setattr(syscalls, "prctl", lambda *_, check: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: met)
    if named:
        with pytest.raises(OSError, match="Invalid argument"):
            syscalls.filters()
    else:
        syscalls.filters()
