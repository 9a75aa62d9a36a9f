"""
Settings: environment variables `WAYBILL_…`, checked at start.

Everything has a default that works on one machine: an embedded PostgreSQL and all
files under `.waybill` in the current folder.
"""

from __future__ import annotations

import ctypes
import getpass
import json
import os
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.declared import MANIFEST
from pipeline.errors import Usage
from pipeline.state import clean_text
from pipeline.trouble import Place
from stages.formats.probe import BYTES_MAX
from waybill.logs import Level

NAME_CHARS_MAX = 100  # of a reviewer
OWNER = "WAYBILL_OWNER_URL"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def _memory_share() -> int:
    """A quarter of this machine's memory, and no less than 1 GiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1 << 30, total // 4)


class Settings(BaseSettings):
    """
    One process's settings.

    Attributes:
        home: Database, artifacts, archive and logs of the embedded default.
        inbox: Where people drop files; default `home/inbox`.
        out: Where finished documents go; default `home/out`.
        pipelines: Folder of pipeline folders.
        pipeline: The pipeline of files that name none.
        database_url: A PostgreSQL of your own, connected to as the service.
        owner_url: The same as its owner, for `waybill db migrate` alone.
        cores: Jailed processes for OCR and parsing, of this machine.
        items_max: Items at once in one worker process.
        lease_s: How long a worker may act without renewing, seconds.
        blocked_s: How long one stage may hold up its worker's loop, seconds; at most
            four tenths of the lease.
        worker_memory_bytes: A worker process that grows larger is replaced.
        max_file_bytes: Larger files are quarantined unread, whatever their pipeline.
        settle_s: A file in the inbox is complete after this rest, seconds.
        vendors: File that declares vendors; default `home/vendors.toml`.
        vendor_hosts: Hosts inside your own network that stages may call.
        llm_url, llm_model, llm_key: Declare the vendor `llm`, which writes replies.
        vision_url, vision_model, vision_key: `vision`, which reads pages.
        http: Where `waybill up` takes callbacks, such as 127.0.0.1:8787; "": nowhere.
        http_url: How that is reached from outside; default: `http://` and the above.
        log_level: What is logged: this and what is graver.
        reviewer: The name beside a decision; default: the login name.
        roles: What the reviewer may rule on beside the common line.
    """

    model_config = SettingsConfigDict(env_prefix="WAYBILL_", extra="ignore")

    home: Path = Path(".waybill")
    inbox: Path | None = None
    out: Path | None = None
    pipelines: Path = EXAMPLES
    pipeline: str = "documents"
    database_url: SecretStr = SecretStr("")
    owner_url: SecretStr = SecretStr("")
    cores: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=512)
    items_max: int = Field(default=5000, ge=1, le=100_000)
    lease_s: float = Field(default=9.0, ge=1, le=300)
    blocked_s: float = Field(default=3.0, ge=1.5, le=60)
    worker_memory_bytes: int = Field(default_factory=_memory_share, ge=256 << 20)
    max_file_bytes: int = Field(default=BYTES_MAX, ge=1024)
    settle_s: float = Field(default=2.0, ge=0.1, le=600)
    vendors: Path | None = None
    vendor_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    llm_url: str = ""
    llm_model: str = ""
    llm_key: SecretStr = SecretStr("")
    vision_url: str = ""
    vision_model: str = ""
    vision_key: SecretStr = SecretStr("")
    http: str = Field(
        default="", pattern=r"^$|^(\[[0-9a-fA-F:]+\]|[^:\s\[\]]+):\d{1,5}$"
    )
    http_url: str = Field(default="", pattern=r"^$|^https?://[^\s?#]+$")
    log_level: Level = "info"
    reviewer: str = Field(default="", validate_default=True)
    roles: Annotated[list[str], NoDecode] = Field(default_factory=list)

    @property
    def blocked_bound_s(self) -> float:
        """So long a stage may hold up the loop: well below the lease."""
        return min(self.blocked_s, 0.4 * self.lease_s)

    @property
    def inbox_dir(self) -> Path:
        """The inbox, resolved."""
        return self.inbox or self.home / "inbox"

    @property
    def out_dir(self) -> Path:
        """The output folder, resolved."""
        return self.out or self.home / "out"

    @property
    def vendors_file(self) -> Path:
        """Where vendors are declared."""
        return self.vendors or self.home / "vendors.toml"

    @property
    def pipeline_folders(self) -> list[Path]:
        """Those that are there, by name; without a look at what is in them."""
        return sorted(path.parent for path in self.pipelines.glob(f"*/{MANIFEST}"))

    @property
    def callbacks_url(self) -> str:
        """Where callbacks are sent to; "": there is nobody who takes them, or nobody
        here knows at which port (0: whichever is free)."""
        known = self.http and self.http.rpartition(":")[2].strip("0")
        return self.http_url or (f"http://{self.http}" if known else "")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, level: str) -> str:
        return level.lower()

    @field_validator("vendor_hosts", "roles", mode="before")
    @classmethod
    def _listed(cls, hosts: Any) -> Any:
        """`a, b` or `["a", "b"]`."""
        if not isinstance(hosts, str):
            return hosts
        if not hosts.lstrip().startswith("["):
            return [host for part in hosts.split(",") if (host := part.strip())]
        try:
            return json.loads(hosts)
        except ValueError:
            raise ValueError("write them with commas between: a, b") from None

    @field_validator("reviewer", mode="before")
    @classmethod
    def _named(cls, name: str) -> str:
        return clean_text(name).strip()[:NAME_CHARS_MAX] or _login_name()


def read_settings(*, as_owner: bool = False) -> Settings:
    """
    Settings of the environment.

    Args:
        as_owner: Keep the owner's URL.  Otherwise this process forgets it, and so
            does whoever it starts: stages run there, which are other people's code.

    Raises:
        Usage: naming the variable.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])
        usual = Settings.model_fields[field].get_default(call_default_factory=True)
        raise Usage(
            f"WAYBILL_{field.upper()}: {first['msg'].removeprefix('Value error, ')}",
            hint="mend it" + f", or unset it: then it is {usual}" * bool(usual),
        ) from None
    if as_owner and settings.owner_url.get_secret_value():
        return settings
    named = "database_url" in settings.model_fields_set
    if named and not settings.database_url.get_secret_value().strip():
        raise Usage(
            "WAYBILL_DATABASE_URL is set and empty",
            hint="give it a URL; to use the embedded server, unset it",
        )
    if as_owner:
        return settings
    owner = settings.owner_url.get_secret_value()
    if owner and not settings.database_url.get_secret_value():
        raise Usage(
            f"{OWNER} is set and WAYBILL_DATABASE_URL is not",
            hint="the service needs the second, as its own role; with neither of them "
            "the embedded server is used",
        )
    _forget(OWNER)
    return settings.model_copy(update={"owner_url": SecretStr("")})


def _forget(variable: str) -> None:
    """Take a variable out of the environment, and out of what /proc shows of it."""
    os.environ.pop(variable, None)
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # no Linux: nobody is shown it
    # Fields 50 and 51, counted from 1; the name in parentheses may hold spaces.
    begin, end = map(int, stat.rpartition(")")[2].split()[47:49])
    if not begin:
        return
    start = f"{variable}=".encode()
    at = begin
    for entry in ctypes.string_at(begin, end - begin).split(b"\0"):
        if entry.startswith(start):
            ctypes.memset(at, 0, len(entry))
        at += len(entry) + 1


def _login_name() -> str:
    try:
        return getpass.getuser()[:NAME_CHARS_MAX]
    except (OSError, KeyError):
        return f"uid-{os.getuid()}"


class Places(NamedTuple):
    """The folders that a worker writes to."""

    artifacts: Place
    out: Place
    scratch: Place

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """As these settings say."""
        home = settings.home.absolute()
        return cls(
            Place("the artifact store", home / "objects" / "fresh", made=True),
            Place("the output folder", settings.out_dir.absolute()),
            Place("the scratch folder", home / "tmp"),
        )
