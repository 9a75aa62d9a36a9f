"""
Simulated vendors: the world outside, played on loopback.

`scripted` answers a test line by line in the test's own loop; `python -m loadtest
vendors` plays a whole world in a process of its own (`world`), which scenarios start
and ask through `playing`.  Nothing here is shared with the service: what was accepted
is counted by the vendors' own book.
"""

from loadtest.vendors.scripted import (
    bomb,
    chat,
    dripping,
    failing,
    flooding,
    hanging,
    html,
    misshapen,
    not_json,
    packed,
    redirect,
    refused,
    serving,
    throttled,
    throttled_until,
    truncated,
    written,
)
from loadtest.vendors.wire import Answer

__all__ = [
    "Answer",
    "bomb",
    "chat",
    "dripping",
    "failing",
    "flooding",
    "hanging",
    "html",
    "misshapen",
    "not_json",
    "packed",
    "redirect",
    "refused",
    "serving",
    "throttled",
    "throttled_until",
    "truncated",
    "written",
]
