"""State of an item of the trouble run: what each stage leaves."""

from __future__ import annotations

from pydantic import BaseModel


class Parcel(BaseModel):
    """What is in it (larger than a row takes), and where its label is."""

    content: str = ""
    label: str = ""
