"""Who acts: the name beside every decision."""

from __future__ import annotations

import getpass
import os

from pipeline.state import clean_text


def whoami() -> str:
    """`WAYBILL_REVIEWER`, or the name one is logged in with."""
    name = clean_text(os.environ.get("WAYBILL_REVIEWER", "")).strip()
    if name:
        return name[:100]
    try:
        return getpass.getuser()[:100]
    except (OSError, KeyError):
        return f"uid-{os.getuid()}"
