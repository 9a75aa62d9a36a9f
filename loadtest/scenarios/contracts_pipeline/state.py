"""State of a contract of the run, or of one agent's part of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from pipeline.stage import merge


class Contract(BaseModel):
    """
    A contract, or what one reader looks for in it.

    Attributes:
        text: The artifact that has its pages, a form feed between two.
        places: Where each type of clause is looked for: a page, from 1.
        single: Types that one reader looks for, and not two.
        of, clause, reader, page: Of a part: whose it is, and what it is asked.
        rulings: A lawyer's word by type: verdict, quote and page.
    """

    text: str
    places: dict[str, int] = {}
    single: list[str] = []
    of: str = ""
    clause: str = ""
    reader: str = ""
    page: int = 0
    pages: int = 0
    finding: Annotated[dict[str, Any], merge] = {}
    rulings: Annotated[dict[str, Any], merge] = {}
    fields: Annotated[dict[str, Any], merge] = {}
