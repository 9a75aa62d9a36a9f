"""
The one door to every outside service.

A call has one total timeout, one answer of bounded size, and one of three
failures that say what happens to the item: `Throttled` (not now), `Transient`
(try again) or `Permanent` (never).  Nothing is retried here: retries live in the
worker, at one layer, or a sick vendor meets them multiplied.

What the door will not do: follow redirects, heed proxy variables, speak anything
but http and https, or reach an address inside our own network (addresses.py).  Hosts
that an operator configured (a model server on this machine) are named in
`allow_hosts`.

Each service has a circuit breaker.  After some failures in a row it opens and
calls come back at once as `Throttled(VENDOR_OPEN)`; then one probe may try.

No message, log line or repr of this module carries a key or an answer's text.
"""

from __future__ import annotations

import json
import re
import ssl
import zlib
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

import anyio
import httpx

from pipeline.errors import Throttled, Transient, Usage, WaybillError
from pipeline.vendors.addresses import Address, resolve
from pipeline.vendors.answers import garbage, parsed, refusal, retry_after_s
from pipeline.vendors.breaker import Breaker

ANSWER_BYTES_MAX = 4 * 1024 * 1024
REFUSAL_BYTES_MAX = 64 * 1024  # enough of an error page to tell a quota from a no
CONNECT_S = 10.0  # part of the total; a dead address should not eat all of it
ADDRESSES_FRESH_S = 60.0  # how long a checked address is used before a new look-up
SERVICES_MAX = 64  # distinct scheme, host and port; configured by people, so few
CONNECTIONS_MAX = 256  # per service


class Vendor:
    """
    The door (see `pipeline.stage.VendorDoor`); open it with `async with`.

    Args:
        allow_hosts: Host names or addresses that may be private or local: those
            of base URLs an operator configured.  Never from a document.
        answer_bytes_max: Of the decoded answer.
        open_after: Failures in a row that open a service's breaker.
        open_s: How long it stays open at first; doubles with each failed probe.
        open_max_s: The longest it stays open.
        blame_after_s: A timeout shorter than this is the item's own lack of
            time and says nothing about the vendor.
        now: The wall clock, for Retry-After dates.
        verify: TLS settings, for a private certificate authority.
    """

    def __init__(
        self,
        *,
        allow_hosts: Collection[str] = (),
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        open_after: int = 5,
        open_s: float = 5.0,
        open_max_s: float = 120.0,
        blame_after_s: float = 2.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = frozenset(host.lower().strip("[]") for host in allow_hosts)
        self._answer_bytes_max = answer_bytes_max
        self._breaker = (open_after, open_s, open_max_s)
        self._blame_after_s = blame_after_s
        self._now = now
        self._verify = verify
        self._services: dict[tuple[str, str, int], _Service] = {}
        self._entered = False

    def __repr__(self) -> str:
        states = [
            f"{host}:{port} {service.breaker.state}"
            for (_, host, port), service in self._services.items()
        ]
        return f"<Vendor {', '.join(states) or 'none'}>"

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered = False
        services, self._services = self._services, {}
        with anyio.move_on_after(5, shield=True):
            for service in services.values():
                await service.client.aclose()

    async def post_json(
        self, url: str, body: Any, *, key: str = "", timeout_s: float
    ) -> Any:
        """
        POST `body` as JSON, return the decoded JSON answer.

        `timeout_s` covers everything from the look-up to the last byte.  `key`
        travels as a bearer token.

        Raises:
            Throttled: 429, a 503 that says when, QUOTA, VENDOR_OPEN; with
                `retry_after_s` where known.
            Transient: VENDOR_TIMEOUT, VENDOR_DOWN, VENDOR_GARBAGE.
            Permanent: VENDOR_AUTH, VENDOR_REFUSED, VENDOR_FORBIDDEN.
            Usage: a URL or key that cannot be one.
        """
        assert self._entered, "open the Vendor with `async with`"
        target = _target(url)
        service = self._service(target)
        headers = _headers(target, key)
        content = json.dumps(body).encode("ascii")

        ticket = service.breaker.admit()
        try:
            with anyio.move_on_after(timeout_s) as scope:
                answer = await self._exchange(service, target, headers, content)
            if scope.cancelled_caught:
                raise Transient(
                    f"{target.host} did not answer within {timeout_s:.1f} s",
                    code="VENDOR_TIMEOUT",
                    hint="look at the vendor's status page; raise timeout_s if it is"
                    " merely slow",
                )
        except WaybillError as error:
            self._account(service, ticket, error, timeout_s)
            raise
        except BaseException:
            # Cancelled from outside: we learned nothing about the vendor.
            service.breaker.forget(ticket)
            raise
        service.breaker.succeeded(ticket)
        return answer

    # -- one call --------------------------------------------------------------------

    async def _exchange(
        self,
        service: _Service,
        target: httpx.URL,
        headers: dict[str, str],
        content: bytes,
    ) -> Any:
        address = await self._address(service, target)
        request = service.client.build_request(
            "POST",
            target.copy_with(host=str(address)),
            headers=headers,
            content=content,
            # TLS still greets, and checks the certificate of, the name.
            extensions={"sni_hostname": _host(target)},
        )
        # The client adds the request's own timeouts; ours is the scope around us.
        try:
            response = await service.client.send(request, stream=True)
            try:
                return await self._read(response, target.host)
            finally:
                with anyio.move_on_after(1, shield=True):
                    await response.aclose()
        except httpx.TimeoutException:
            service.addresses = []
            raise Transient(
                f"{target.host} accepted no connection within {CONNECT_S:.0f} s",
                code="VENDOR_TIMEOUT",
                hint="look at the vendor's status page and at the network",
            ) from None
        except httpx.TransportError as error:
            # Its text may quote what was sent: only its kind is told.
            service.addresses = service.addresses[1:]
            raise Transient(
                f"the connection to {target.host} failed ({type(error).__name__})",
                code="VENDOR_DOWN",
                hint="look at the vendor's status page and at the network",
            ) from None

    async def _read(self, response: httpx.Response, host: str) -> Any:
        if response.is_success:
            data = await _decoded(response, self._answer_bytes_max)
            if data is None:
                raise garbage(host, "an answer that is too large or badly packed")
            return parsed(data, host)
        text = ""
        if response.status_code in (400, 403):
            text = (await _decoded(response, REFUSAL_BYTES_MAX) or b"").decode(
                "utf-8", "replace"
            )
        wait_s = retry_after_s(response.headers, self._now())
        raise refusal(response.status_code, host, wait_s, text)

    async def _address(self, service: _Service, target: httpx.URL) -> Address:
        """An address of the host that we may connect to."""
        now = anyio.current_time()
        if service.addresses and now < service.addresses_until:
            return service.addresses[0]
        host = _host(target)
        addresses = await resolve(
            host, _port(target), name=target.host, allowed=host in self._allowed
        )
        service.addresses = addresses
        service.addresses_until = now + ADDRESSES_FRESH_S
        return addresses[0]

    def _service(self, target: httpx.URL) -> _Service:
        # Connections are kept by address, so each service has a client of its own:
        # two names on one address must not share a connection.
        name = (target.scheme, _host(target), _port(target))
        if name not in self._services:
            if len(self._services) >= SERVICES_MAX:
                raise Usage(
                    f"more than {SERVICES_MAX} different services",
                    hint="the URLs of services belong into pipeline.toml",
                )
            # One context for all services, made for the first: loading the root
            # certificates takes 20 ms, and most commands call nobody.
            self._verify = self._verify or httpx.create_ssl_context(trust_env=False)
            self._services[name] = _Service(_client(self._verify), *self._breaker)
        return self._services[name]

    def _account(
        self, service: _Service, ticket: int, error: WaybillError, timeout_s: float
    ) -> None:
        match error:
            case Throttled():
                service.breaker.succeeded(ticket)  # busy, so alive
            case Transient() if (
                error.code == "VENDOR_TIMEOUT" and timeout_s < self._blame_after_s
            ):
                service.breaker.forget(ticket)
            case Transient():
                service.breaker.failed(ticket)
            case _:
                service.breaker.succeeded(ticket)


class _Service:
    """What we know of one scheme, host and port."""

    def __init__(
        self, client: httpx.AsyncClient, after: int, open_s: float, max_s: float
    ) -> None:
        self.client = client
        self.breaker = Breaker(after, open_s, max_s)
        self.addresses: list[Address] = []
        self.addresses_until = 0.0


async def _decoded(response: httpx.Response, bytes_max: int) -> bytes | None:
    """
    The body, unpacked here so that a kilobyte cannot become a gigabyte in one go.

    None when it is longer than `bytes_max` or not what its headers say.
    """
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", ""):
        return None
    unpack = zlib.decompressobj(wbits=31) if packing == "gzip" else None
    whole = bytearray()
    chunks = cast(AsyncGenerator[bytes, None], response.aiter_raw())
    async with aclosing(chunks):
        async for chunk in chunks:
            room = bytes_max + 1 - len(whole)
            try:
                whole += unpack.decompress(chunk, room) if unpack else chunk
            except zlib.error:
                return None
            if len(whole) > bytes_max:
                return None
    return bytes(whole)


# -- requests ----------------------------------------------------------------------


def _target(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        target = httpx.URL("")
    # Messages never repeat the URL: people put keys into them.
    if target.scheme not in ("http", "https") or not target.host or target.userinfo:
        raise Usage(
            "a vendor's url must be http:// or https://, a host, and no credentials",
            code="VENDOR_URL",
            hint="set url in pipeline.toml and the key in the environment",
        )
    return target.copy_with(fragment=None)


def _host(target: httpx.URL) -> str:
    return target.raw_host.decode("ascii").lower().strip("[]")


def _port(target: httpx.URL) -> int:
    return target.port or (443 if target.scheme == "https" else 80)


def _headers(target: httpx.URL, key: str) -> dict[str, str]:
    headers = {
        "host": target.netloc.decode("ascii"),
        "accept": "application/json",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "user-agent": "waybill",
    }
    if key:
        # httpx would quote a bad header, key and all, in its error.
        if not re.fullmatch(r"[\x21-\x7e]{1,4096}", key):
            raise Usage(
                "the vendor's key has characters no key has",
                code="VENDOR_KEY",
                hint="look for a line break or quotes around it in the environment",
            )
        headers["authorization"] = f"Bearer {key}"
    return headers


def _client(verify: ssl.SSLContext | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=verify or True,
        trust_env=False,  # no proxies, no .netrc
        follow_redirects=False,
        # No read timeout: a drip of bytes would outlive any; the scope ends it.
        timeout=httpx.Timeout(None, connect=CONNECT_S),
        limits=httpx.Limits(
            max_connections=CONNECTIONS_MAX, max_keepalive_connections=32
        ),
    )
