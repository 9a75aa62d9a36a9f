"""
Sinks, as vendors.toml declares them: where effects go.

    [sink.press]
    kind = "folder"

    [sink.hook]
    kind = "webhook"
    vendor = "shop"             # whose URL, limits and breaker
    secret = "secret:hook"      # signs

    [sink.crm]
    kind = "crm"
    vendor = "crm"
    object = "Case"
    external_id = "Waybill_Key__c"

    [sink.mail]
    kind = "smtp"
    host = "smtp.example.com"
    sender = "office@example.com"

Whether a receiver knows an effect that reaches it twice follows from its kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import Usage
from pipeline.misfits import misfit_of, read_toml
from pipeline.outbox import SinkClass, SinkFacts
from pipeline.vendors.declared import Reference, Table

SALESFORCE_NAME = r"^[A-Za-z]\w{0,79}$"


class _Sink(Table):
    """
    What all sinks have in common.

    Attributes:
        irreversible: Every effect waits for a person's release.
        at_once: Calls under way at once, of one worker.
    """

    name: str = ""
    irreversible: bool = False
    at_once: int = Field(default=8, ge=1, le=1000)
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    gather_s: float = Field(default=0.0, ge=0, le=86400)

    @property
    def sink_class(self) -> SinkClass:
        """What the receiver makes of a second one."""
        return SinkClass.A

    @property
    def facts(self) -> SinkFacts:
        """What whoever plans an effect must know."""
        vendor = getattr(self, "vendor", "")
        return SinkFacts(self.sink_class, self.irreversible, self.gather_s, vendor)


KEY = "{key}"  # in `ask`, where an effect's key stands


def _plain(path: str) -> str:
    if ".." in Path(path).parts or not path.isprintable():
        raise ValueError("name the folder as it is called, without `..`")
    return path


class FolderSpec(_Sink):
    """
    A folder of folders: each that appears is whole, has a number and stays.

    Attributes:
        path: Below the home folder, or absolute; never by `..`; "": as the sink's
            name.
        together: Files of at most so many effects in one.
        gather_s: What is planned within this time comes into one.
    """

    kind: Literal["folder"]
    path: Annotated[str, Field(max_length=1000), AfterValidator(_plain)] = ""
    together: int = Field(default=200, ge=1, le=5000)
    at_once: int = Field(default=1, ge=1, le=1)
    gather_s: float = Field(default=5.0, ge=0, le=86400)


def _asks_by_key(path: str) -> str:
    # Else every answer would say that it happened, also of what was never received.
    if path and (KEY not in path or set(path.replace(KEY, "")) & set("{}")):
        raise ValueError(f"it asks for one effect: write its key, as in /jobs/{KEY}")
    return path


class PostSpec(_Sink):
    """
    JSON, posted to a vendor, one effect a call.

    Attributes:
        dedupes: It knows a repeated call by its key: class A.
        ask: Where it is asked for a key, such as `/jobs/{key}`: class B.
    """

    kind: Literal["http"]
    vendor: str
    path: str = ""
    dedupes: bool = False
    ask: Annotated[str, AfterValidator(_asks_by_key)] = ""

    @property
    def sink_class(self) -> SinkClass:
        """By what it can do."""
        if self.dedupes:
            return SinkClass.A
        return SinkClass.B if self.ask else SinkClass.C


class WebhookSpec(_Sink):
    """A signed webhook (Standard Webhooks): its receiver knows each `webhook-id`."""

    kind: Literal["webhook"]
    vendor: str
    path: str = ""
    secret: Reference = Field(min_length=8)


class CrmSpec(_Sink):
    """
    Records of a CRM, written by an external id: collections of Salesforce's REST.

    Attributes:
        object: Of the records.
        external_id: The field that names one; the effect's key, unless it is given.
        path: Of the collections' resource.
    """

    kind: Literal["crm"]
    vendor: str
    object: str = Field(pattern=SALESFORCE_NAME)
    external_id: str = Field(pattern=SALESFORCE_NAME)
    path: str = "/services/data/v62.0/composite/sobjects"
    together: int = Field(default=200, ge=1, le=200)
    at_once: int = Field(default=4, ge=1, le=1000)


class SmtpSpec(_Sink):
    """
    E-mail.  No server tells whether it has a message already: class C.

    Attributes:
        tls: From the start, by STARTTLS, or none at all.
    """

    kind: Literal["smtp"]
    host: str
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: Reference = ""
    sender: str = Field(pattern=r"^[^\s@<>]+@[^\s@<>]+$")
    at_once: int = Field(default=4, ge=1, le=100)

    @property
    def sink_class(self) -> SinkClass:
        """Neither known nor asked for."""
        return SinkClass.C


SinkSpec = Annotated[
    FolderSpec | PostSpec | WebhookSpec | CrmSpec | SmtpSpec,
    Field(discriminator="kind"),
]


class _Sinks(BaseModel):
    model_config = ConfigDict(extra="ignore", defer_build=True)

    sink: dict[str, SinkSpec] = Field(default_factory=dict, max_length=200)


def read_sinks(path: Path, vendors: frozenset[str] = frozenset()) -> dict[str, Any]:
    """
    The sinks that a file declares, by name; none where there is no file.

    Args:
        vendors: Those that are declared.

    Raises:
        Usage: SINKS_FILE, naming the key and what it may be.
    """
    try:
        raw = read_toml(path)
    except ValueError as error:
        raise _bad(str(error)) from None
    try:
        found = _Sinks.model_validate(raw).sink
    except ValidationError as error:
        misfit = misfit_of(error, _Sinks)
        raise _bad(f"{path}: {misfit.said}", misfit.hint) from None
    for name, spec in found.items():
        vendor = getattr(spec, "vendor", None)
        if vendor is not None and vendor not in vendors:
            raise _bad(f"{path}: sink.{name}: there is no vendor {vendor!r}")
    return {
        name: spec.model_copy(update={"name": name}) for name, spec in found.items()
    }


def _bad(message: str, hint: str = "") -> Usage:
    kinds = "kinds: folder, webhook, http, crm, smtp; docs/effects.md shows each"
    hint = hint or kinds
    return Usage(message, code="SINKS_FILE", hint=hint)
