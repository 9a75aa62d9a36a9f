"""Answers from outside: seen to be of the form that was asked for, and told what became
of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from ingest.signals import BYTES_MAX, deliver, misfits
from pipeline.doubles import MemoryArtifacts
from pipeline.errors import WaybillError
from pipeline.model import Entry, State, Submission, ToWaiting
from pipeline.signals import Ask
from pipeline.store.memory import MemoryStore
from pipeline.store.signals import Taken
from tests.store.world import HERE


class Line(BaseModel):
    """One line of a proof."""

    model_config = {"extra": "forbid"}

    text: str = Field(pattern="^(a+)+$", max_length=10)
    page: int = Field(ge=1)


class Proof(BaseModel):
    """What a proof-reader answers."""

    good: bool
    lines: list[Line] = []


SCHEMA: dict[str, Any] = Proof.model_json_schema()


class Door:
    """A store with one item that waits for a proof, and the way in."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.artifacts = MemoryArtifacts()
        self.said = ""  # by errors

    async def open(self, schema: dict[str, Any] | None = SCHEMA) -> Door:
        """Park the item."""
        store = self.store
        number = await store.register_pipeline("letters", "1", ["proof"], {})
        batch = await store.open_batch("acme", "may", deadline_s=3600)
        await store.admit(batch, number, [Submission("a", "k", "t", 1)])
        worker = await store.join(HERE, lease_s=30)
        await store.claim(worker, "proof", 1, {})
        text = None if schema is None else json.dumps(schema)
        asks = (Ask("proof-read", text, None, 1e6),)
        wait = ToWaiting("proof", 0, 0, 1e6, "", asks=asks)
        await store.commit(worker, [Entry(1, None, wait)])
        return self

    async def send(self, said: Any, item: int = 1, **more: Any) -> Taken | str:
        """What became of an answer: taken so, or a code."""
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        name = more.pop("name", "proof-read")
        try:
            return await deliver(
                self.store, self.artifacts, item, name, body, author="ann", **more
            )
        except WaybillError as error:
            self.said += f"{error.message} {error.hint}"
            return error.code


async def test_an_answer_that_fits_is_taken() -> None:
    """The item is in line."""
    door = await Door().open()

    taken = await door.send({"good": True, "lines": [{"text": "aaa", "page": 1}]})

    assert taken is Taken.NOW
    assert (await door.store.item(1)).state is State.READY


@pytest.mark.parametrize(
    "said",
    [
        {},
        [],
        "secret",
        {"good": "secret"},
        {"good": True, "lines": [{"text": "aaa", "page": 0}]},
        {"good": True, "lines": [{"text": "a", "page": 1, "secret": "secret"}]},
        b"",
        b"{",
        b"secret",
        b'{"good": NaN}',
        b"\xff",
        b'"' + b"secret" * 10 + b'"x',
        b"[" * 5000 + b"]" * 5000,
    ],
)
async def test_an_answer_that_does_not_fit_is_refused(said: Any) -> None:
    """By its form, and nothing of it is quoted; the item waits on."""
    door = await Door().open()

    assert await door.send(said) == "SIGNAL_SCHEMA"

    assert "secret" not in door.said
    assert (await door.store.item(1)).state is State.WAITING
    assert await door.send({"good": True}) is Taken.NOW


async def test_what_is_wrong_is_named() -> None:
    """By the names of the schema, and never by those of the answer."""
    wrong = misfits(
        SCHEMA,
        {"lines": [{"text": 5, "page": 0, "secret": 1}], "other": {"secret": 1}},
    )

    assert wrong == [
        "lines[0]: additionalProperties False",
        "lines[0].text: it must be of type string",
        "lines[0].page: minimum 1",
    ]
    assert misfits(SCHEMA, {"lines": []}) == ["it: required ['good']"]
    tree = TypeAdapter(dict[str, int]).json_schema()
    assert misfits(tree, {"secret": "x"}) == ["…: it must be of type integer"]


async def test_a_pattern_cannot_be_made_to_run_for_ever() -> None:
    """The stage looks at it itself, by an engine that cannot."""
    hard = {"good": True, "lines": [{"text": "aaaaaaaaab", "page": 1}] * 1000}

    assert misfits(SCHEMA, hard) == []
    assert misfits({"pattern": "^(a+)+$"}, "a" * 5000 + "b") == []


def test_what_cannot_be_said_here_is_left_to_the_stage() -> None:
    """A reference that leads out, which nobody fetches, and what is no schema."""
    assert misfits({"$ref": "http://127.0.0.1:9/x.json"}, 1) == []
    assert misfits({"type": 7}, 1) == []


async def test_an_item_that_parks_meanwhile_says_what_fits() -> None:
    """The answer is seen again by that, and not taken as an early one."""
    door = await Door().open()
    signals = door.store.signals
    looks: list[int] = []

    async def before(item: int, name: str = "") -> Any:
        looks.append(1)
        return [] if len(looks) == 1 else await signals(item, name)

    door.store.signals = before  # type: ignore[method-assign]

    assert await door.send({"good": "perhaps"}) == "SIGNAL_SCHEMA"
    looks.clear()
    assert await door.send({"good": True}) is Taken.NOW
    assert len(looks) == 2


async def test_an_early_answer_is_kept_whatever_it_is() -> None:
    """Nobody has said yet what fits."""
    door = await Door().open()

    assert await door.send({"secret": 1}, name="later") is Taken.KEPT


async def test_it_is_told_what_became_of_it() -> None:
    """A code for each."""
    door = await Door().open()
    await door.send({"good": True})

    assert await door.send({"good": True}) is Taken.AGAIN
    assert await door.send({"good": False}) == "SIGNAL_ANSWERED"
    assert await door.send({"good": "?"}, delivery="2") == "SIGNAL_ANSWERED"
    assert await door.send(1, item=2) == "SIGNAL_FOREIGN"
    assert await door.send(1, tenant="other", name="b") == "SIGNAL_FOREIGN"
    assert await door.send(1, name="b", until=1.0) == "SIGNAL_FOREIGN"
    assert await door.send(1, name="a b") == "BAD_SIGNAL"
    assert await door.send(b"1" * (BYTES_MAX + 1), name="b") == "SIGNAL_SIZE"
    await door.store.cancel([1], "ann")
    assert await door.send(1, name="b") == "SIGNAL_LATE"


async def test_a_delivery_has_an_id() -> None:
    """Its own, or what it says."""
    door = await Door().open()

    assert await door.send({"good": True}, delivery="msg_1") is Taken.NOW
    assert await door.send({"good": False}, delivery="msg_1") is Taken.AGAIN
    assert await door.send({"good": True}) == "SIGNAL_ANSWERED"


async def test_a_large_answer_is_kept_as_an_artifact() -> None:
    """Its row names it."""
    door = await Door().open(None)
    said = {"pages": ["x" * 1000] * 20}

    assert await door.send(said) is Taken.NOW

    [row] = await door.store.signals(1)
    assert row.payload is None
    assert json.loads(door.artifacts.kept[str(row.ref)]) == said


async def test_a_stranger_does_not_learn_what_fits() -> None:
    """Another's item, a URL of yesterday: nothing is compared, noted or told."""
    door = await Door().open()
    wrong = {"good": "perhaps"}

    assert await door.send(wrong) == "SIGNAL_SCHEMA"
    assert await door.send(wrong, tenant="other") == "SIGNAL_FOREIGN"
    assert await door.send(wrong, until=1.0) == "SIGNAL_FOREIGN"
    await door.store.cancel([1], "ann")
    assert await door.send(wrong) == "SIGNAL_LATE"
