"""State of an item of the evil pipeline: none."""

from __future__ import annotations

from pydantic import BaseModel


class Nothing(BaseModel):
    """Good and evil need no memory."""
