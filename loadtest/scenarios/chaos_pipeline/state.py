"""State of a chaos item: what each stage leaves."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from pipeline.stage import append


class Trip(BaseModel):
    """Where an item has been, in order."""

    been: Annotated[list[str], append] = Field(default_factory=list)
    label: str = ""
