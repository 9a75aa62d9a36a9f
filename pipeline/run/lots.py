"""
Lots: numbers that look drawn by chance, are the same at every try, and that nobody
outside can foresee or steer.
"""

from __future__ import annotations

import hashlib
import hmac

_FOR = b"waybill lot\n"  # the key signs nothing else in this form


class Lots:
    """
    Draws a lot of an item by the service's own key (HMAC-SHA256, RFC 2104).

    What is signed is the item's number and what the lot is for: neither its text nor
    its file's name, which whoever sends it chooses.

    Args:
        key: The service's own, 32 bytes; the same in every process of a database.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Lots>"

    def lot(self, item: int, name: str) -> float:
        """A number in [0, 1), evenly spread; for ever the same of item and name."""
        mac = hmac.digest(self._key, _FOR + f"{item}\n{name}".encode(), hashlib.sha256)
        return (int.from_bytes(mac[:8], "big") >> 11) / (1 << 53)
