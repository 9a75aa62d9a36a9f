"""
The addresses a vendor may have: none inside our own network.

A host name is resolved here and every address it has is checked; the door connects
to a checked address, so that a second look-up cannot lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket

import anyio

from pipeline.errors import Permanent, Transient

# Instance-metadata services answer with credentials.  Some sit at addresses that
# are otherwise merely private, so an allowed host must not lead there either.
METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254"))
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def resolve(host: str, port: int, *, name: str, allowed: bool) -> list[Address]:
    """
    The addresses of `host`, all of them such as we may connect to.

    `allowed` hosts are an operator's own: they may be private or local.  Errors
    call the host `name`.

    Raises:
        Transient: VENDOR_DOWN, the name does not resolve.
        Permanent: VENDOR_FORBIDDEN.
    """
    try:
        rows = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Transient(
            f"the name {name} does not resolve",
            code="VENDOR_DOWN",
            hint="check the host name in the configured URL, and DNS",
        ) from None
    # In the resolver's order, without doubles.
    addresses = list(dict.fromkeys(ipaddress.ip_address(r[4][0]) for r in rows))
    # One bad address among good ones is how a look-up is turned against us.
    if not addresses or not all(reachable(a, allowed) for a in addresses):
        raise Permanent(
            f"{name} is an address inside a network, not a vendor's",
            code="VENDOR_FORBIDDEN",
            hint="if it is your own server, configure it as the stage's url",
        )
    return addresses


def reachable(address: Address, allowed: bool) -> bool:
    """
    Whether we may connect.  `allowed` hosts may be private or local; metadata
    services, link-local, multicast and reserved addresses nobody.
    """
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv4 address in IPv6 clothes is judged as what it is.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return reachable(inner, allowed)
    if address in METADATA or address.is_link_local or address.is_multicast:
        return False
    if address.is_unspecified:
        return False
    return allowed or (address.is_global and not address.is_reserved)
