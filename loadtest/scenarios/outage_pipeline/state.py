"""State of an item of the outage run."""

from __future__ import annotations

from pydantic import BaseModel


class Parcel(BaseModel):
    """Whether it was handed over."""

    handed: bool = False
