"""
What comes back: a `Reply`, or the failure that the answer is.

A body is unpacked here, within its bound, and never kept whole where it becomes an
artifact.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from pipeline.artifacts.durable import new_part
from pipeline.calls import KEPT_HEADERS, Request, Usage
from pipeline.stage import Artifacts
from pipeline.threads import in_thread
from pipeline.trouble import ours
from pipeline.vendors.allowance import Allowance, allowances
from pipeline.vendors.answers import (
    TELLING,
    clock_of,
    declared_class,
    is_declared,
    parsed,
    refusal,
    retry_after_s,
    text_of,
)
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import CallError, garbage
from pipeline.vendors.usage import said_in

if TYPE_CHECKING:
    from pipeline.vendors.wire import Heard

REFUSAL_BYTES_MAX = 64 * 1024  # of one, enough to tell a quota from a no
WRITE_BYTES = 1 << 20  # of a download, at a time: a thread for each piece is dear
EMPTY = frozenset((204, 205))


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A good answer.

    Attributes:
        data: The decoded JSON or the text; None of an answer without a body, and
            where it became an artifact.
        artifact: Its name.
        headers: Those of `KEPT_HEADERS`, in small letters.
        usage: None where the vendor says none that can be believed.
        limits: How much more the vendor will take, as far as it says so.
        took_s: From the look-up to the last byte.
    """

    status: int
    data: Any = None
    artifact: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    usage: Usage | None = None
    model: str = ""
    finish: str = ""
    limits: tuple[Allowance, ...] = ()
    took_s: float = 0.0


class Call:
    """
    One call: from the head of its answer to a `Reply`.

    Attributes:
        began: When it was sent, or was about to be.
        under_way: The vendor may have got it.
    """

    def __init__(
        self,
        spec: VendorSpec,
        request: Request,
        artifacts: Artifacts | None,
        scratch: Path,
        now: Callable[[], datetime],
    ) -> None:
        self.spec = spec
        self.request = request
        self.began = anyio.current_time()
        self.under_way = False
        self._artifacts = artifacts
        self._scratch = scratch
        self._now = now

    async def read(self, heard: Heard) -> Reply:
        """The reply, or the failure that the answer is."""
        status, spec, now = heard.status, self.spec, self._now()
        if not 200 <= status < 300 or spec.errors.get(str(status)) is not None:
            text = ""
            if status in TELLING or is_declared(spec, status):
                text = await self._beginning(heard)
            raise refusal(spec, status, retry_after_s(heard.headers, now), text)
        if status == 206 and "range" not in map(str.lower, self.request.headers):
            raise garbage(spec, "a part of what was asked for")
        data, artifact = await self._body(heard)
        said = said_in(spec.kind, data)
        return Reply(
            status,
            data,
            artifact,
            {
                name: heard.headers[name]
                for name in KEPT_HEADERS
                if name in heard.headers
            },
            *said,
            allowances(heard.headers, clock_of(heard.headers, now)),
            anyio.current_time() - self.began,
        )

    async def _body(self, heard: Heard) -> tuple[Any, str]:
        """The answer's data, or the name of the artifact that it became."""
        spec = self.spec
        if self.request.method == "HEAD" or heard.status in EMPTY:
            return None, ""
        if self.request.answer == "artifact":
            assert self._artifacts is not None, "an artifact needs a place"
            return None, await self._artifact(heard, self._artifacts)
        whole = bytearray()
        async with aclosing(_unpacked(heard, spec, spec.answer_bytes_max)) as pieces:
            async for piece in pieces:
                whole += piece
        data = bytes(whole)
        if is_declared(spec, heard.status):
            text = data.decode("utf-8", "replace")
            if declared_class(spec, heard.status, text) is not None:
                raise refusal(spec, heard.status, None, text)
        if self.request.answer == "text":
            try:
                return text_of(data, spec), ""
            except CallError as error:
                error.status = heard.status  # it came whole, and says at least that
                raise
        return parsed(data, spec), ""

    async def _artifact(self, heard: Heard, artifacts: Artifacts) -> str:
        """Streamed into a file without a future, then into the store."""
        with ours("the scratch folder", self._scratch), new_part(self._scratch) as file:
            pieces = _unpacked(heard, self.spec, self.spec.answer_bytes_max)
            async with aclosing(pieces):
                await _written(pieces, file)
            return await artifacts.put_file(Path(file.name))

    async def _beginning(self, heard: Heard) -> str:
        """The beginning of a refusal; whatever is wrong with it does not matter."""
        whole = bytearray()
        try:
            pieces = _unpacked(heard, self.spec, REFUSAL_BYTES_MAX)
            async with aclosing(pieces):
                async for piece in pieces:
                    whole += piece
        except CallError:
            pass  # longer than it needs to be, or cut: what came is enough
        return whole.decode("utf-8", "replace")


async def _written(pieces: AsyncIterator[bytes], file: IO[bytes]) -> None:
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= WRITE_BYTES:
            await in_thread(file.write, bytes(waiting))
            waiting.clear()
    await in_thread(file.write, bytes(waiting))
    await in_thread(file.flush)


# A stream of a model's tokens comes in pieces of a hundred bytes and more.  What comes
# byte by byte costs a thousand times its size, and this process has others to hear.
PIECES_FREE, PIECE_BYTES = 5_000, 16


async def _unpacked(
    heard: Heard, spec: VendorSpec, bytes_max: int
) -> AsyncGenerator[bytes, None]:
    """
    The body, unpacked here so that a kilobyte cannot become a gigabyte in one go.

    Raises:
        CallTransient: VENDOR_GARBAGE, longer than `bytes_max`, or not packed as its
            headers say from its first byte to its last.
    """
    packing = heard.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip", ""):
        raise garbage(spec, "an answer that is packed as nobody asked for")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in packing else None
    left = bytes_max
    pieces = size = 0
    async with aclosing(heard.body) as chunks:
        async for chunk in chunks:
            pieces, size = pieces + 1, size + len(chunk)
            if pieces > PIECES_FREE and size < pieces * PIECE_BYTES:
                raise garbage(spec, "an answer in crumbs")
            if pieces % 100 == 0:
                await anyio.lowlevel.checkpoint()  # what is here already waits for none
            try:
                piece = unpack.decompress(chunk, left + 1) if unpack else chunk
            except zlib.error:
                raise garbage(spec, "an answer that is badly packed") from None
            left -= len(piece)
            if left < 0:
                raise garbage(spec, f"an answer of more than {bytes_max} bytes")
            if unpack and unpack.unused_data:
                raise garbage(spec, "more than the answer that it packed")
            yield piece
    if unpack and not unpack.eof:
        raise garbage(spec, "an answer that is cut off")
