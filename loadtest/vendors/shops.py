"""
Smaller vendors: an ERP that is asked, a printer's shop, a receiver of webhooks, a
moderation service.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection
from typing import Any

from loadtest.vendors.book import Taken, digest, now
from loadtest.vendors.distributor import PART_FAULTS, Wrong, of_parts
from loadtest.vendors.kinds import Call, Plain, Reply
from loadtest.vendors.labels import read_flags
from loadtest.vendors.sales import Quotes, asked_for
from loadtest.vendors.settings import Play
from loadtest.vendors.signing import verified

SKU = re.compile(r"[A-Z]{2,5}-\d{1,8}", re.ASCII)


class Erp(Plain):
    """
    Articles with price and stock, each made from its number; orders.

        GET  /items/AB-12           all of it; /items/AB-12/price, /items/AB-12/stock
        GET  /items?q=AB-1          a list
        GET  /parts …               a distributor's catalogue: see `distributor`
        GET  /customers …           who buys, and GET, POST /quotes …: see `sales`
        POST /orders                {"reference", "lines"}
    """

    faults = frozenset({"price_changed", *PART_FAULTS})

    def __init__(self) -> None:
        self._orders: dict[str, dict[str, Any]] = {}
        self._quotes = Quotes()

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """An article, a list of them, or an order that was taken."""
        match (call.method, *call.parts):
            case ("GET", "items") if call.query.get("q"):
                skus = [f"{call.query['q']}{place}" for place in range(3)]
                listed = [_article(sku) for sku in skus if SKU.fullmatch(sku)]
                return Reply(data={"items": listed})
            case ("GET", "items", sku, *part) if SKU.fullmatch(sku):
                article = _article(sku)
                if fault == "price_changed":
                    article["price"]["amount"] = f"{dice.uniform(1, 99):.2f}"
                asked = part[0] if part else ""
                return Reply(data=article.get(asked, article))
            case ("GET", "parts", *rest):
                found = of_parts(rest, call.query, fault, dice, now())
                if isinstance(found, Wrong):
                    return self.error(call, found.status, found.why)
                return Reply(data=found)
            case ("GET", "customers"):
                return self._listed(call, asked_for(call.query))
            case ("GET", "quotes"):
                return self._listed(call, self._quotes.found(call.query))
            case ("POST", "quotes") if self._quotes.take(call.fields.get("data")):
                quote = call.fields["data"]
                key = f"{quote['number']}/{quote['revision']}"
                return Reply(201, {}, taken=[Taken("quote", key, call.body)])
            case ("GET", "orders", number) if number in self._orders:
                return Reply(data=self._orders[number])
            case ("POST", "orders") if call.fields:
                number = f"SO-{len(self._orders) + 1:06}"
                order = {"number": number, "state": "taken", **call.fields}
                self._orders[number] = order
                key = str(call.fields.get("reference", ""))
                return Reply(201, order, taken=[Taken("order", key, call.body)])
            case _:
                return self.error(call, 404, "no such article or order")

    def _listed(self, call: Call, found: dict[str, Any] | None) -> Reply:
        return (
            self.error(call, 400, "ask otherwise")
            if found is None
            else Reply(data=found)
        )


class Printer(Plain):
    """
    A printer's shop: what it accepts is printed, and cannot be called back.

        POST /batches           the batch as body; key: the header, or "reference"
        GET  /batches/KEY       the job, where the shop knows its batches by key
    """

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Any]] = {}
        self._printed = 0

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """A job that was taken, or what became of one."""
        match (call.method, *call.parts):
            case ("POST", "batches") if call.body:
                return self._print(call, play)
            case ("GET", "batches", key) if play.dedupe and key in self._jobs:
                return Reply(data=self._jobs[key])
            case _:
                return self.error(call, 404, "no such batch")

    def _print(self, call: Call, play: Play) -> Reply:
        reference = str(call.fields.get("reference", ""))
        key = call.headers.get(play.key_header, "") or reference or digest(call.body)
        if play.dedupe and (before := self._jobs.get(key)):
            if before["sha"] == digest(call.body):
                return Reply(200, before)
            return self.error(call, 409, "this batch was printed with other pages")
        self._printed += 1
        job: dict[str, Any] = {
            "job": f"P{self._printed:06}",
            "key": key,
            "state": "printing",
        }
        job |= {"sha": digest(call.body), "bytes": len(call.body)}
        self._jobs[key] = job
        return Reply(201, job, taken=[Taken("batch", key, call.body)])


class Hook(Plain):
    """Takes signed webhooks (Standard Webhooks), each `webhook-id` once."""

    faults = frozenset({"gone"})

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """204; 401 for a signature that is none of ours; 410: send no more."""
        if fault == "gone":
            return self.error(call, 410, "this endpoint is gone")
        if not verified(play.secret, call.headers, call.body, now()):
            return self.error(call, 401, "the signature does not verify")
        event = call.headers["webhook-id"]
        return Reply(204, taken=[Taken("event", event, call.body)])


CATEGORIES = {
    "harassment": ("idiot", "loser"),
    "harassment/threatening": ("i will find you",),
    "hate": ("subhuman",),
    "hate/threatening": (),
    "illicit": ("build a bomb",),
    "illicit/violent": (),
    "self-harm": ("hurt myself",),
    "self-harm/intent": ("kill myself",),
    "self-harm/instructions": (),
    "sexual": ("explicit sex",),
    "sexual/minors": (),
    "violence": ("kill", "murder"),
    "violence/graphic": ("blood everywhere",),
}


class Moderation(Plain):
    """
    OpenAI's moderations: a few plain words are flagged, or what `labels` say of a text.

    In the book each text stands as `flagged` or `clear`, with its digest as key.
    """

    faults = frozenset({"flagged", "fewer_results"})

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """A result for each text; one for a list of parts."""
        if (call.method, call.path.removeprefix("/v1")) != ("POST", "/moderations"):
            return self.error(call, 404, f"no such resource: {call.path}")
        asked = call.fields.get("input")
        if isinstance(asked, str):
            texts = [asked]
        elif isinstance(asked, list) and all(isinstance(x, dict) for x in asked):
            texts = [" ".join(str(part.get("text", "")) for part in asked)]
        elif isinstance(asked, list):
            texts = [str(each) for each in asked]
        else:
            return self.error(call, 400, "input is required")
        keys = [digest(text.encode()) for text in texts]
        known = read_flags(play.labels) if play.labels else None
        results = [
            _result(text, fault == "flagged", known and known.get(key, ()))
            for text, key in zip(texts, keys, strict=True)
        ]
        done = [
            Taken("flagged" if one["flagged"] else "clear", key, call.body)
            for one, key in zip(results, keys, strict=True)
        ]
        if fault == "fewer_results":
            results = results[1:]
        named = play.model or str(call.fields.get("model", "omni-moderation-latest"))
        data = {"id": f"modr-{dice.getrandbits(64):016x}", "model": named}
        return Reply(data={**data, "results": results}, taken=done)


def _result(
    text: str, flag: bool, named: Collection[str] | None = None
) -> dict[str, Any]:
    """One text's result; `named` are the categories that its label names."""
    small = text.lower()
    found = {
        name: any(w in small for w in words) if named is None else name in named
        for name, words in CATEGORIES.items()
    }
    if flag:
        found["harassment"] = True
    scores = {c: 0.97 if hit else 0.0001 for c, hit in found.items()}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": scores,
        "category_applied_input_types": {c: ["text"] for c in found},
    }


def _article(sku: str) -> dict[str, Any]:
    made = int(hashlib.sha256(sku.encode()).hexdigest()[:8], 16)
    return {
        "sku": sku,
        "name": f"Article {sku}",
        "price": {"amount": f"{made % 9900 / 100 + 1:.2f}", "currency": "EUR"},
        "stock": {"on_hand": made % 50, "unit": "piece"},
    }
