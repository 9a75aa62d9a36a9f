"""
How calls go wrong: each fault has a name, and stands before or after acceptance.

Before it nothing was done; after it the vendor has done and billed its work, and only
the answer is spoilt.  What else a kind of vendor can get wrong it adds itself.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from loadtest.vendors.settings import Play
from loadtest.vendors.wire import HANG_S, Answer

OK = "ok"

# Errors in the vendor's own form, before anything was accepted: name and status.
ERRORS = {
    "error_400": 400,
    "error_401": 401,
    "error_403": 403,
    "error_404": 404,
    "error_409": 409,
    "error_429": 429,
    "error_500": 500,
    "error_502": 502,
    "error_503": 503,
    "error_504": 504,
    "error_529": 529,
}
# Answers that are none, before anything was accepted.
HANG = "hang"
RESET = "reset"
REDIRECT = "redirect"
BEFORE = {*ERRORS, HANG, RESET, REDIRECT}


def unanswered(fault: str, play: Play) -> Answer:
    """What a client gets that met `hang`, `reset` or `redirect`."""
    if fault == REDIRECT:
        return Answer(307, b"", (("location", play.redirect_to),))
    return Answer(after_s=HANG_S if fault == HANG else 0.0, ends="reset")


def _lost(right: Answer, play: Play) -> Answer:
    """Accepted; the connection is cut before a byte of the reply."""
    return replace(right, ends="reset")


def _silent(right: Answer, play: Play) -> Answer:
    """Accepted; no reply ever comes."""
    return replace(right, after_s=HANG_S, ends="reset")


def _cut(right: Answer, play: Play) -> Answer:
    """Announced whole, ends in the middle."""
    return replace(right, chop=len(right.body) // 2)


def _hangup(right: Answer, play: Play) -> Answer:
    """A right answer, and the connection ends unannounced."""
    return replace(right, ends="close")


def _drip(right: Answer, play: Play) -> Answer:
    """A byte at a time: no read timeout ever strikes."""
    return replace(right, drip_s=play.drip_s)


def _two_answers(right: Answer, play: Play) -> Answer:
    """Another whole answer follows on the connection, to a question nobody asked."""
    stranger = Answer(body=json.dumps({"stranger": "of another call"}).encode())
    return replace(right, behind=stranger.head() + stranger.body)


def _flood(right: Answer, play: Play) -> Answer:
    """An answer that is only long."""
    return replace(right, body=b" " * 65536, times=play.flood_bytes // 65536)


def _bomb(right: Answer, play: Play) -> Answer:
    """A gzip answer a thousandth of what it unpacks to."""
    return _packed(right, _bomb_of(play.flood_bytes))


def _gzipped(right: Answer, play: Play) -> Answer:
    """A right answer, packed as most services do."""
    return _packed(right, gzip.compress(right.body, mtime=0))


def _cut_gzip(right: Answer, play: Play) -> Answer:
    """Whole by its length, cut inside its gzip: what unpacks may even be JSON."""
    return _packed(right, gzip.compress(right.body, mtime=0)[:-8])


def _bad_gzip(right: Answer, play: Play) -> Answer:
    """Says that it is gzip, and is not."""
    return _packed(right, right.body)


def _bad_json(right: Answer, play: Play) -> Answer:
    """Complete, and cut in the middle of its JSON."""
    return replace(right, body=right.body[: len(right.body) // 2])


def _bad_utf8(right: Answer, play: Play) -> Answer:
    """Text in no encoding."""
    return replace(right, body=right.body[:-1] + b"\xff\xfe" + right.body[-1:])


def _html(right: Answer, play: Play) -> Answer:
    """A proxy's friendly page, with status 200."""
    page = b"<!doctype html><title>Welcome</title>"
    return replace(right, body=page, headers=(("content-type", "text/html"),))


def _empty(right: Answer, play: Play) -> Answer:
    """Success, and nothing in it."""
    return replace(right, body=b"")


def _deep(right: Answer, play: Play) -> Answer:
    """JSON so deep that a decoder gives up."""
    return replace(right, body=b"[" * 100_000 + b"]" * 100_000)


def _nan(right: Answer, play: Play) -> Answer:
    """What only Python takes for JSON."""
    return replace(right, body=b'{"value": NaN}')


def _wrong_envelope(right: Answer, play: Play) -> Answer:
    """JSON of another service."""
    return replace(right, body=b'{"status": "ok", "data": []}')


AFTER: dict[str, Callable[[Answer, Play], Answer]] = {
    spoil.__name__.removeprefix("_"): spoil
    for spoil in (
        *(_lost, _silent, _cut, _hangup, _drip, _two_answers, _flood, _bomb),
        *(_gzipped, _cut_gzip, _bad_gzip, _bad_json, _bad_utf8, _html, _empty),
        *(_deep, _nan, _wrong_envelope),
    )
}


def _packed(right: Answer, body: bytes) -> Answer:
    return replace(
        right, body=body, headers=(*right.headers, ("content-encoding", "gzip"))
    )


@lru_cache(maxsize=4)
def _bomb_of(size_bytes: int) -> bytes:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * (1 << 20)
    body = b"".join(pack.compress(block) for _ in range(max(1, size_bytes >> 20)))
    return body + pack.flush()
