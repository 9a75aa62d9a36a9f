"""
The addresses a vendor may have: none inside our own network.

A host name is resolved here and every address it has is checked; the door connects
to a checked address, so that a second look-up cannot lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket

import anyio

from pipeline.calls import CallClass
from pipeline.trouble import starved
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import failure

# Instance-metadata services answer with credentials.  Some sit at addresses that
# are otherwise merely private, so an allowed host must not lead there either.
METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254"))
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def resolve(
    host: str, port: int, *, spec: VendorSpec, allowed: bool = False
) -> list[Address]:
    """
    The addresses of `host`, all of them such as we may connect to.

    A vendor that is declared to be `inside`, or whose host is `allowed`, is an
    operator's own: it may be private or local.

    Raises:
        CallTransient: VENDOR_DOWN, the name does not resolve.
        CallPermanent: VENDOR_FORBIDDEN.
        Trouble: this process can open nothing any more.
    """
    try:
        rows = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        if trouble := starved():
            raise trouble from None
        raise failure(
            CallClass.TRANSIENT,
            spec,
            "has a host name that does not resolve",
            hint="check the host name in its url, and DNS",
        ) from None
    # In the resolver's order, without doubles.
    addresses = list(dict.fromkeys(ipaddress.ip_address(r[4][0]) for r in rows))
    # One bad address among good ones is how a look-up is turned against us.
    if not addresses or not all(
        reachable(a, allowed or spec.inside) for a in addresses
    ):
        raise failure(
            CallClass.PERMANENT,
            spec,
            "is at an address inside a network, not a vendor's",
            code="VENDOR_FORBIDDEN",
            hint=_what_allows(spec, addresses),
        )
    return addresses


def _what_allows(spec: VendorSpec, addresses: list[Address]) -> str:
    if not any(reachable(a, True) for a in addresses):
        return "nobody may call such an address: set url to the vendor's own"
    name = spec.name or "NAME"
    return (
        f"if it is your own server, say so: inside = true below [vendor.{name}] in "
        "vendors.toml, or its host in WAYBILL_VENDOR_HOSTS"
    )


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
