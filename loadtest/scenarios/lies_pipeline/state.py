"""State of an item of the lies run: what it was answered."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Heard(BaseModel):
    """The answers, each beside the mark that its question bore."""

    heard: list[dict[str, Any]] = []
