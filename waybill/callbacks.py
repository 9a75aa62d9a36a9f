"""
Callbacks as the settings have them: the key of their URLs, where they are taken, and
the secrets of those who sign.  Beside it the service's other key, that of lots.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute, SocketListener

from pipeline.artifacts.durable import write_once
from pipeline.errors import Usage
from pipeline.run.lots import Lots
from pipeline.run.services import secret_lines
from pipeline.signals import Callbacks
from waybill.settings import Settings

KEY_BYTES = 32
WEBHOOKS = "webhooks"  # a tenant's secrets of this name


def open_callbacks(settings: Settings) -> Callbacks | None:
    """What makes and reads callback URLs, by a key that is made once."""
    if not settings.callbacks_url:
        return None
    path = settings.home / "keys" / "callbacks"
    return Callbacks(write_once(path, os.urandom(KEY_BYTES)), settings.callbacks_url)


def open_lots(settings: Settings) -> Lots:
    """What draws lots, by a key that is made once."""
    return Lots(write_once(settings.home / "keys" / "lots", os.urandom(KEY_BYTES)))


async def listen(where: str) -> SocketListener:
    """
    A listener at HOST:PORT; of port 0 at one that is free (`at`).

    Raises:
        Usage: HTTP_ADDRESS, nobody can listen there.
    """
    host, _, port = where.rpartition(":")
    try:
        listener = await anyio.create_tcp_listener(
            local_host=host.strip("[]"), local_port=int(port)
        )
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or "there is no such port"
        raise Usage(
            f"nobody can listen at {where}: {said}",
            code="HTTP_ADDRESS",
            hint="WAYBILL_HTTP names a free address of this machine, such as "
            "127.0.0.1:8787; one `waybill up` of a home is enough",
        ) from None
    first, *more = listener.listeners
    for other in more:  # a name of several addresses
        await other.aclose()
    assert isinstance(first, SocketListener)
    return first


def at(where: str, listener: SocketListener) -> str:
    """HOST:PORT as it was written, with the port that was really bound."""
    host, colon, _ = where.rpartition(":")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # not Django's
    return f"{host}{colon}{port}"


def webhook_secrets(folder: Path | None, tenant: str) -> list[str]:
    """A tenant's secrets, a line each; of what is no tenant there are none."""
    with suppress(Usage):
        return secret_lines(folder, tenant, WEBHOOKS)
    return []
