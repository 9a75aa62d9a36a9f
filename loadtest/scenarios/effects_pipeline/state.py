"""State of an item of the effects run."""

from __future__ import annotations

from pydantic import BaseModel


class Errand(BaseModel):
    """What was planned."""

    keys: list[str] = []
