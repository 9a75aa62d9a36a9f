"""
The one door to every outside service.

A call has one total timeout, one answer of bounded size, and one class of failure
that says what happens to the item (`failures.py`).  Nothing is retried here: retries
live in the worker, at one layer, or a sick vendor meets them multiplied.

What the door will not do: follow redirects, heed proxy variables, keep cookies, speak
anything but http and https, use a connection again on which more came than was asked
for, or reach an address inside our own network that nobody declared (addresses.py).

No message, log line or repr of this room carries a key or an answer's text.
"""

from __future__ import annotations

import math
import ssl
import tempfile
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import certifi
from pydantic import SecretStr

from pipeline.artifacts.durable import sweep
from pipeline.calls import CallClass, Moment, Request
from pipeline.errors import Usage as UsageError
from pipeline.stage import Artifacts
from pipeline.threads import in_thread
from pipeline.trouble import trouble_of
from pipeline.vendors.addresses import Address, resolve
from pipeline.vendors.asking import Sent, sent
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import failure, garbage
from pipeline.vendors.hearing import Call, Reply
from pipeline.vendors.target import Target, target_of

if TYPE_CHECKING:
    from pipeline.vendors.wire import Wire

ADDRESSES_FRESH_S = 60.0  # how long a checked address is used before a new look-up
SERVICES_MAX = 256  # distinct scheme, host and port; declared by people, so few


class Door:
    """
    The door; open it with `async with`.

    Args:
        allow_hosts: Host names or addresses that may be private or local, whatever
            a vendor's declaration says.  Never from a document.
        scratch: Folder where a download lies until it is an artifact.
        now: The wall clock, for dates in answers.
        verify: TLS settings, for a private certificate authority.
    """

    def __init__(
        self,
        *,
        allow_hosts: Collection[str] = (),
        scratch: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = frozenset(host.lower().strip("[]") for host in allow_hosts)
        self._own = scratch is not None
        self._scratch = scratch or Path(tempfile.gettempdir())
        self._now = now
        self._verify = verify
        self._services: dict[tuple[str, str, int, bool], _Service] = {}
        self._entered = False
        self._ready = False
        self._loading = anyio.Lock()

    def __repr__(self) -> str:
        hosts = [f"{host}:{port}" for _, host, port, _ in self._services]
        return f"<Door {', '.join(hosts) or 'none'}>"

    async def __aenter__(self) -> Self:
        if self._own and self._scratch.is_dir():
            await in_thread(sweep, self._scratch)  # what a killed process was loading
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
                await service.wire.aclose()

    async def send(
        self,
        spec: VendorSpec,
        request: Request,
        *,
        key: SecretStr | str = "",
        timeout_s: float,
        idempotency_key: str = "",
        artifacts: Artifacts | None = None,
        when: Moment | None = None,
    ) -> Reply:
        """
        Make one call, once.

        Args:
            key: The vendor's credential, resolved.
            timeout_s: Of everything from the look-up to the last byte.
            artifacts: Where an answer goes that is to be an artifact.
            when: Returns when it may be sent; all is made ready before, and what it
                raises ends the call unsent.

        Raises:
            CallThrottled: THROTTLED, QUOTA; with `retry_after_s` where it is known.
            CallTransient: VENDOR_TIMEOUT, VENDOR_DOWN, VENDOR_GARBAGE.
            CallPermanent: VENDOR_AUTH, VENDOR_REFUSED, VENDOR_FORBIDDEN,
                VENDOR_REQUEST.
            Usage: a URL or a key that cannot be one.
            Trouble: our own disk or descriptors.
        """
        assert self._entered, "open the Door with `async with`"
        out = sent(spec, request, key=key, idempotency_key=idempotency_key)
        call = Call(spec, request, artifacts, self._scratch, self._now)
        await self._prepare()  # which is not the vendor's time
        with anyio.move_on_after(timeout_s) as scope:

            async def moment() -> None:
                assert when is not None
                scope.deadline = math.inf  # the wait is not the vendor's time
                await when()
                call.began = anyio.current_time()
                call.under_way = True
                scope.deadline = call.began + timeout_s

            return await self._exchange(call, out, None if when is None else moment)
        assert scope.cancelled_caught
        raise failure(
            CallClass.TRANSIENT,
            spec,
            f"did not answer within {timeout_s:.1f} s",
            code="VENDOR_TIMEOUT",
            hint="look at the vendor's status page; raise timeout_s if it is merely"
            " slow",
            in_doubt=call.under_way,
        )

    async def _prepare(self) -> None:
        """
        Load what the first call needs, in a thread.

        Most commands call nobody, and on a busy machine it takes seconds: a loop that
        stood still for them would be taken for a stage that blocks it.
        """
        if self._ready:
            return
        async with self._loading:
            if not self._ready:
                await in_thread(_load, self._verify is None)
                self._ready = True

    async def _exchange(self, call: Call, out: Sent, when: Moment | None) -> Reply:
        from pipeline.vendors import wire

        spec = call.spec
        target = target_of(spec.url)
        service = self._service(spec, target)
        address = await self._address(service, spec, target)
        asked = wire.Asked(
            call.request.method,
            f"{target.scheme}://{_literal(address)}:{target.port}{out.path}",
            target.host,
            out.headers,
            out.body,
            spec.connect_s,
        )
        call.under_way = when is None
        try:
            async with service.wire.exchange(asked, when) as heard:
                return await call.read(heard)
        except wire.Unreached as error:
            service.addresses = service.addresses[1:]
            if error.error and (trouble := trouble_of(error.error)):
                raise trouble from None
            timeout = str(error) == "timeout"
            raise failure(
                CallClass.TRANSIENT,
                spec,
                f"accepted no connection within {spec.connect_s:g} s"
                if timeout
                else f"accepted no connection ({error})",
                code="VENDOR_TIMEOUT" if timeout else "VENDOR_DOWN",
                hint="look at the vendor's status page and at the network",
            ) from None
        except wire.Lost as error:
            raise failure(
                CallClass.TRANSIENT,
                spec,
                f"broke the connection off ({error})",
                hint="look at the vendor's status page and at the network",
                in_doubt=True,
            ) from None
        except wire.Misspoken:
            raise garbage(spec, "something that is not HTTP") from None

    async def _address(
        self, service: _Service, spec: VendorSpec, target: Target
    ) -> Address:
        """An address of the host that we may connect to."""
        now = anyio.current_time()
        if service.addresses and now < service.addresses_until:
            return service.addresses[0]
        addresses = await resolve(
            target.host, target.port, spec=spec, allowed=target.host in self._allowed
        )
        service.addresses = addresses
        service.addresses_until = now + ADDRESSES_FRESH_S
        return addresses[0]

    def _service(self, spec: VendorSpec, target: Target) -> _Service:
        # Connections are kept by address, so each service has its own: two names on
        # one address must not share a connection.
        name = (target.scheme, target.host, target.port, spec.inside)
        if name not in self._services:
            if len(self._services) >= SERVICES_MAX:
                raise UsageError(
                    f"more than {SERVICES_MAX} different services",
                    hint="vendors belong into vendors.toml",
                )
            from pipeline.vendors.wire import Wire

            self._services[name] = _Service(Wire(self._verify or _certificates()))
        return self._services[name]


class _Service:
    """What we know of one scheme, host and port."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.addresses: list[Address] = []
        self.addresses_until = 0.0


def _load(certificates: bool) -> None:
    from pipeline.vendors import wire  # noqa: F401

    if certificates:
        _certificates()


@cache
def _certificates() -> ssl.SSLContext:
    # The machine's (SSL_CERT_FILE), and Mozilla's where a container has none.
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _literal(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
