"""Who acts: the name beside every decision."""

from __future__ import annotations

import getpass
import os


def whoami() -> str:
    """`WAYBILL_REVIEWER`, or the name one is logged in with."""
    name = os.environ.get("WAYBILL_REVIEWER", "").strip()
    if name:
        return name[:100]
    try:
        return getpass.getuser()[:100]
    except (OSError, KeyError):
        return f"uid-{os.getuid()}"
