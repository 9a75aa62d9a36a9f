"""State of a spending item: what it was answered."""

from __future__ import annotations

from pydantic import BaseModel


class Asked(BaseModel):
    """How many answers it has."""

    answers: int = 0
