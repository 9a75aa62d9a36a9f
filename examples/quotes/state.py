"""A request for a quote on its way."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.stage import merge
from stages.document import Document
from stages.quoting.forms import Chosen, Customer, Enquiry, Found, Quote


class Request(Document):
    """
    What the stages of this pipeline read and write: each field is a channel.

    Attributes:
        enquiry: What was read in it, and what must be asked.
        asked: How: "mail", a signed link was sent to the buyer; "", nobody was asked,
            or a clerk was.
        answers: What was said to questions, by their keys, such as `1.medium`.
        customer: Who asks, as the ERP has them.
        found: What the ERP has for each line.
        before: The revision before this one, as the ERP has it.
        chosen: Parts of each line.
        vouched: What a person says of a line that no rule speaks of, by its number.
        granted: The digest of the quote that a person granted as it is.
        quote: With its prices and sums.
    """

    enquiry: Enquiry | None = None
    asked: str = ""
    answers: Annotated[dict[str, Any], merge] = Field(default_factory=dict)
    customer: Customer | None = None
    found: list[Found] = Field(default_factory=list)
    before: dict[str, Any] | None = None
    chosen: list[Chosen] = Field(default_factory=list)
    vouched: Annotated[dict[str, Any], merge] = Field(default_factory=dict)
    granted: str = ""
    quote: Quote | None = None
