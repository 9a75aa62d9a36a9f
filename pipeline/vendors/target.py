"""
Where a declared URL leads, and the headers that are the door's.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline.errors import Usage as UsageError

# What nobody else may say: who is asked, as whom, and how long the body is.
OURS = frozenset(
    (
        *("host", "authorization", "proxy-authorization", "x-api-key"),
        *("content-length", "transfer-encoding", "accept-encoding", "expect", "te"),
        *("connection", "keep-alive", "upgrade", "trailer"),
    )
)
# Those of them that carry a key, which `key_header` may name.
OF_KEYS = frozenset(("authorization", "proxy-authorization", "x-api-key"))
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# As h11 takes it: no blank at its ends, and nothing that ends its line.
HEADER_VALUE = re.compile(
    r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]{0,8190}[\x21-\x7e\x80-\xff])?)?"
)


class Target(NamedTuple):
    """Where a vendor is; `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """The host as a `Host` header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"


@lru_cache(maxsize=512)
def target_of(url: str) -> Target:
    """
    Where a declared URL leads.

    Raises:
        Usage: VENDOR_URL; it never repeats the URL, since people put keys into them.
    """
    try:
        parts = urlsplit(url)
        host = _host(parts.hostname or "")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        fine = parts.scheme in ("http", "https") and "@" not in parts.netloc
        if not fine or parts.query or parts.fragment or not _PATH.fullmatch(parts.path):
            raise ValueError
    except ValueError:
        raise UsageError(
            "a vendor's url must be http:// or https://, a host and perhaps a path, "
            "and no credentials",
            code="VENDOR_URL",
            hint='set url in vendors.toml, and its key by key = "secret:NAME"',
        ) from None
    return Target(parts.scheme, host, port, parts.path.rstrip("/"))


_PATH = re.compile(r"[\x21-\x7e]{0,2000}")


def _host(name: str) -> str:
    if ":" in name:
        return str(ipaddress.IPv6Address(name.partition("%")[0]))
    host = name.encode("idna").decode("ascii").lower()
    if not re.fullmatch(r"[a-z0-9_.-]{1,253}", host):
        raise ValueError(name)
    return host
