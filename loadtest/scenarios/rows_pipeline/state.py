"""State of an item without a document."""

from __future__ import annotations

from pydantic import BaseModel


class Parcel(BaseModel):
    """When its stage began, in unix time."""

    begun: float = 0.0
