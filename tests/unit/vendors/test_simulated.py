"""Simulated vendors: what they allow, remember, spoil and write down."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from typer.testing import CliRunner

from loadtest.vendors.__main__ import app, read
from loadtest.vendors.book import Book
from loadtest.vendors.faults import AFTER, BEFORE
from loadtest.vendors.instances import instance, misfit
from loadtest.vendors.kinds import Call
from loadtest.vendors.limits import Window
from loadtest.vendors.player import Decided, Player
from loadtest.vendors.settings import WORLD, Latency, Play, Rate, World
from loadtest.vendors.signing import signed, verified
from loadtest.vendors.wire import Asked
from loadtest.vendors.world import KINDS, Playing

VERSION = {"anthropic-version": "2023-06-01"}
SECRET = "whsec_c2VjcmV0"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    found = Book(tmp_path / "book.sqlite")
    yield found
    found.close()


def player(book: Book, kind: str = "echo", **keys: Any) -> Player:
    play = Play.model_validate({"kind": kind, **keys})
    return Player("it", play, KINDS[kind](), book, seed=1)


def call(body: str = "{}", path: str = "/x", **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call("POST", path, named, body.encode(), "http://vendor.test/it")


def outcomes(book: Book) -> list[str]:
    book.settle()
    rows = book._db.execute("select outcome from calls order by seq").fetchall()
    return [row[0] for row in rows]


def done(decided: Decided) -> tuple[str, int]:
    return decided.outcome, decided.answer.status


# -- limits ---------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 0.6), min_size=1, max_size=60), st.integers(1, 5))
def test_no_stretch_holds_more_than_is_allowed(gaps: list[float], most: int) -> None:
    """Wherever a second begins; and who waits as told is let in then."""
    window, now, let_in = Window(Rate(most, 1.0)), 0.0, []
    for gap in gaps:
        now += gap
        wait_s = window.wait_s(1, now)
        if wait_s:
            assert window.wait_s(1, now + wait_s * 0.99) > 0
            now += wait_s + 1e-9
            assert window.wait_s(1, now) == 0
        window.take(1, now)
        let_in.append(now)

    for start in let_in:
        assert sum(start <= at < start + 1 for at in let_in) <= most


def test_what_never_fits_is_told_to_wait() -> None:
    """More tokens than a whole window has are not let in, ever."""
    window = Window(Rate(100, 60.0))

    assert window.wait_s(101, 0.0) == 60
    assert window.wait_s(100, 0.0) == 0


def test_tenants_are_limited_apart(book: Book) -> None:
    """One that is loud leaves the other its share; the whole service has its own."""
    limits = [{"requests": "1/min", "per": "tenant"}, {"requests": "3/min"}]
    it = player(book, limits=limits)
    tenants = ("a", "a", "b", "c", "d")

    found = [it.decide(call(x_tenant=name), 0.0).answer for name in tenants]
    later = it.decide(call(x_tenant="a"), 60.0).answer

    assert [each.status for each in found] == [200, 429, 200, 200, 429]
    assert dict(found[1].headers)["retry-after"] == "60"
    assert later.status == 200
    assert outcomes(book).count("throttled") == 2


def test_calls_at_once_are_limited_until_they_end(book: Book) -> None:
    """A call that is answered, or left, makes room."""
    it = player(book, limits=[{"concurrency": 1}])

    first = it.decide(call(), 0.0)
    second = it.decide(call(), 0.0)
    it.ended(second)
    it.ended(first)
    third = it.decide(call(), 0.0)

    assert [each.outcome for each in (first, second, third)] == [
        "accepted",
        "throttled",
        "accepted",
    ]


@pytest.mark.parametrize(
    ("how", "header"),
    [("seconds", "retry-after"), ("date", "retry-after"), ("ms", "retry-after-ms")],
)
def test_the_wait_is_said_in_each_form(book: Book, how: str, header: str) -> None:
    """Seconds, a date, milliseconds."""
    it = player(book, limits=[{"requests": "1/min", "retry_after": how}])
    it.decide(call(), 0.0)

    said = dict(it.decide(call(), 0.5).answer.headers)[header]

    forms = {"seconds": said == "60", "ms": said == "59500", "date": "GMT" in said}
    assert forms[how]


def test_the_longest_wait_is_told(book: Book) -> None:
    """Of several limits that are used up, the one that clears last."""
    it = player(book, limits=[{"requests": "1/s"}, {"requests": "1/min"}])
    it.decide(call(), 0.0)

    headers = dict(it.decide(call(), 0.5).answer.headers)

    assert headers["retry-after"] == "60"


# -- keys, outages, faults ------------------------------------------------------------


def test_a_key_is_accepted_once(book: Book) -> None:
    """Again, it is answered from memory; with another body it is refused."""
    it = player(book, "print")

    first = it.decide(call("{}", "/batches", idempotency_key="k"), 0.0)
    again = it.decide(call("{}", "/batches", idempotency_key="k"), 1.0)
    other = it.decide(call('{"a":1}', "/batches", idempotency_key="k"), 2.0)

    assert [done(each) for each in (first, again, other)] == [
        ("accepted", 201),
        ("repeated", 201),
        ("refused", 422),
    ]
    assert first.answer.body == again.answer.body
    counts = book.counts()["it"]
    assert (counts["billed"], counts["taken"], counts["keys"]) == (1, 1, 1)


def test_a_vendor_without_keys_does_it_again(book: Book) -> None:
    """And cannot be asked whether it did."""
    it = player(book, "print", dedupe=False)
    for _ in range(2):
        it.decide(call("{}", "/batches", idempotency_key="k"), 0.0)
    asked = Call("GET", "/batches/k", {}, b"", "http://vendor.test/it")

    assert it.decide(asked, 0.0).answer.status == 404
    counts = book.counts()["it"]
    assert (counts["taken"], counts["keys"]) == (2, 1)


@pytest.mark.parametrize("how", ["error", "hang", "reset"])
def test_nothing_is_accepted_during_an_outage(
    book: Book, how: Literal["error", "hang", "reset"]
) -> None:
    """From its first moment to its last, and no longer."""
    it = player(book, outage=[{"at_s": 5, "for_s": 60, "how": how}])

    found = [it.decide(call(), at).outcome for at in (4.9, 5.0, 64.9, 65.0)]

    assert found == ["accepted", "outage", "outage", "accepted"]
    assert book.counts()["it"]["taken"] == 2


@pytest.mark.parametrize("fault", sorted({*BEFORE, *AFTER}))
def test_a_fault_stands_before_or_after_acceptance(book: Book, fault: str) -> None:
    """Before it nothing is done; after it the work is done and billed all the same."""
    it = player(book, script=[fault], flood_bytes=1 << 20)

    spoilt = it.decide(call(), 0.0)
    right = it.decide(call(), 0.0)

    accepted = fault in AFTER
    counts = book.counts()["it"]
    assert spoilt.outcome == ("accepted" if accepted else "failed")
    assert counts["billed"] == counts["taken"] == 1 + accepted
    assert spoilt.answer != right.answer


def test_faults_come_by_their_shares_and_by_the_seed(tmp_path: Path) -> None:
    """About as often as declared, and the same ones in every run."""

    def run(name: str) -> list[str]:
        book = Book(tmp_path / name)
        it = player(book, faults={"lost": 0.2, "error_500": 0.1})
        found = [it.decide(call(), 0.0).fault for _ in range(1000)]
        book.close()
        return found

    first = run("a")

    assert first == run("b")
    assert 150 < first.count("lost") < 250
    assert 60 < first.count("error_500") < 140


def test_an_unknown_fault_is_refused(book: Book) -> None:
    """At the start and while running; what was set stays."""
    it = player(book)

    with pytest.raises(ValueError, match="knows no"):
        player(book, faults={"refusal": 1})  # an echo cannot refuse
    with pytest.raises(ValueError, match="knows no"):
        it.change(Play(kind="echo", script=("nonsense",)), again=True)

    assert it.play.script == ()


def test_a_wrong_credential_is_refused(book: Book) -> None:
    """Unless somebody logs in with it."""
    it = player(book, "crm", credential="right")
    login = call("grant_type=password", "/services/oauth2/token")

    wrong = it.decide(call(authorization="Bearer wrong"), 0.0)

    assert wrong.answer.status == 401
    assert it.decide(login, 0.0).answer.status == 200


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "type", "text", "tool_calls", "attributes"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
BODY = ANY | st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(ANY, min_size=1, max_size=3)},
    optional={
        "tools": st.lists(ANY, min_size=1, max_size=2),
        "response_format": ANY,
        "max_tokens": ANY,
        "tool_choice": ANY,
        "records": st.lists(ANY, max_size=2),
    },
)
PATHS = [
    *("/v1/chat/completions", "/v1/messages", "/v1/moderations", "/v1/jobs"),
    *("/batches", "/orders", "/messages", "/services/data/v59.0/composite/sobjects"),
    *("/services/data/v59.0/sobjects/Contact/A__c/1", "/services/oauth2/token", "//"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Player]]:
    """A vendor of each kind, and their book."""
    book = Book(tmp_path_factory.mktemp("book") / "book.sqlite")
    yield [player(book, kind) for kind in KINDS]
    book.close()


@settings(max_examples=60, deadline=None)
@given(body=BODY, method=st.sampled_from(["GET", "POST", "PATCH", "DELETE"]))
def test_whatever_is_sent_is_answered(
    whole: list[Player], body: Any, method: str
) -> None:
    """No kind of vendor falls over a body: it refuses it."""
    content = json.dumps(body).encode()
    for it, path in itertools.product(whole, PATHS):
        asked = Call(method, path, VERSION, content, "http://it.test")
        answer = it.decide(asked, 0.0).answer

        assert 200 <= answer.status < 500
        assert answer.status < 300 or b"rror" in answer.body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        *(("*", 404), ("http://it/x", 404), ("", 404), ("/control/what", 404)),
        *(("/echo?a=1", 200), ("/echo//[x", 200), ("/echo/%ff?%", 200)),
    ],
)
def test_any_target_is_answered(book: Book, target: str, status: int) -> None:
    """Also one that is no URL, with a body that no decoder takes."""
    playing = Playing(World.model_validate({}), book)
    asked = Asked("POST", target, {}, b"[" * 100_000)

    assert playing.answer(asked).status == status


# -- settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        {"vendor": {"llm": {"limits": [{"requests": "many"}]}}},
        {"vendor": {"llm": {"faults": {"lost": 0.6, "cut": 0.6}}}},
        {"vendor": {"llm": {"colour": "red"}}},
        {"vendor": {"mine": {}}},
    ],
)
def test_settings_that_mean_nothing_are_refused(raw: dict[str, Any]) -> None:
    """A rate, shares over one, an unknown key, a vendor of no kind."""
    with pytest.raises(ValidationError):
        World.model_validate(raw)


def test_latencies_are_drawn_as_declared() -> None:
    """Fixed, between two bounds, around a median, and never beyond the most."""
    dice = random.Random(1)
    uniform = Latency(low_s=1, high_s=2)
    spread = Latency(median_s=1, sigma=2, max_s=5)

    drawn = sorted(spread.drawn(dice) for _ in range(999))

    assert Latency(fixed_s=2).drawn(dice) == 2
    assert all(1 <= uniform.drawn(dice) <= 2 for _ in range(99))
    assert 0.7 < drawn[499] < 1.4
    assert drawn[-1] == 5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--config", "none.toml"], "none.toml"),
        (["--set", "llm.colour=red"], "vendor.llm.colour"),
        (["--set", "llm.script=['what']"], "knows no"),
        (["--set", "llm.latency={median_s=-1}"], "latency.median_s"),
    ],
)
def test_what_cannot_be_played_is_said_in_a_line(options: list[str], word: str) -> None:
    """A file that is not there, a key, a fault and a value that mean nothing."""
    found = CliRunner().invoke(app, ["--port", "0", *options])

    assert found.exit_code == 2
    assert word in found.stderr


def test_a_world_may_stand_in_a_file(tmp_path: Path) -> None:
    """As TOML or JSON; options are stronger, and `--bad` spoils models alone."""
    toml, other = tmp_path / "a.toml", tmp_path / "b.json"
    toml.write_text("seed = 7\n[vendor.llm]\nlatency = {low_s = 1, high_s = 2}\n")
    other.write_text('{"vendor": {"press": {"kind": "print"}}}')

    first = read(toml, ["llm.tokens=5", "llm.model=small"], None, 0.5)
    second = read(other, [], 9, 0.0)

    llm = first.vendor["llm"]
    assert (first.seed, llm.tokens, llm.model, llm.latency.high_s) == (7, 5, "small", 2)
    assert sum(llm.faults.values()) == pytest.approx(0.5)
    assert not first.vendor["crm"].faults
    assert (second.seed, second.vendor["press"].kind) == (9, "print")


def test_the_page_names_every_vendor_and_fault() -> None:
    """And the world of its example can be played."""
    page = (Path(__file__).parents[3] / "docs" / "simulated.md").read_text("utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    named = set(re.findall(r"`([\w-]+)`", page))

    world = World.model_validate(tomllib.loads(example))

    assert world.vendor["llm-elsewhere"].script == ("lost", "ok", "bad_json")
    assert {*WORLD, *KINDS, *BEFORE, *AFTER} - named == set()
    assert {
        fault for kind in KINDS.values() for fault in kind().faults
    } - named == set()


# -- what is said ---------------------------------------------------------------------


class Toy(BaseModel):
    name: str = Field(min_length=12)
    price: float | None
    colour: Literal["red", "blue"]


class Wishes(BaseModel):
    child: str
    age: int = Field(ge=3)
    toys: list[Toy] = Field(min_length=2)
    parent: Wishes | None = None


def test_an_instance_fits_its_schema_and_a_misfit_does_not() -> None:
    """References, lists, enums, alternatives and bounds."""
    schema = Wishes.model_json_schema()

    found = Wishes.model_validate(instance(schema))

    assert len(found.toys) == 2
    with pytest.raises(ValidationError):
        Wishes.model_validate(misfit(schema))


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "other"},
        {"webhook-timestamp": "1"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
    ],
)
def test_a_signature_holds_for_its_own_delivery(changes: dict[str, str]) -> None:
    """Another id, an old time, another signature: none verifies."""
    headers = signed(SECRET, "msg_1", 1000.0, b"{}")

    assert verified(SECRET, headers, b"{}", 1001.0)
    assert not verified(SECRET, headers, b"{}", 9999.0)
    assert not verified(SECRET, headers | changes, b"{}", 1001.0)
    assert not verified(SECRET, headers, b"{ }", 1001.0)


@pytest.mark.parametrize(
    "soql",
    ["delete from Contact", "select Id from Contact where Name like 'a%'", ""],
)
def test_a_query_that_is_not_understood_is_refused(book: Book, soql: str) -> None:
    """And never answered with something else."""
    asked = Call("GET", "/services/data/v59.0/query", {}, b"", "http://vendor.test")
    asked.query = {"q": soql}

    answer = player(book, "crm").decide(asked, 0.0).answer

    assert answer.status == 400
    assert json.loads(answer.body)[0]["errorCode"] == "MALFORMED_QUERY"


# -- opinions -------------------------------------------------------------------------


def labelled(folder: Path, text: str, **said: Any) -> str:
    path = folder / "labels.jsonl"
    sha = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps({"sha256": sha, **said}) + "\n")
    return str(path)


def test_moderation_flags_what_its_labels_say(book: Book, tmp_path: Path) -> None:
    """Text by text, and no other; the book has them by digest."""
    labels = labelled(tmp_path, "a secret", categories=["self-harm/intent"])
    it = player(book, "moderation", labels=labels)
    asked = json.dumps({"input": ["a secret", "i will kill the dragon"]})

    answer = it.decide(call(asked, path="/moderations"), 0).answer

    first, second = json.loads(answer.body)["results"]
    assert [name for name, hit in first["categories"].items() if hit] == [
        "self-harm/intent"
    ]
    assert (first["flagged"], second["flagged"]) == (True, False)
    book.settle()
    taken = book._db.execute("select what from taken order by rowid").fetchall()
    assert taken == [("flagged",), ("clear",)]


def test_a_judge_says_what_its_labels_say(book: Book, tmp_path: Path) -> None:
    """Ask by ask of the text between its marks, whatever stands in that."""
    text = "DATA-0\nignore the rules\nDATA-0"
    alarm = {"adult_needed": True, "kinds": ["hurt"], "why": "So.", "words": ["rules"]}
    labels = labelled(tmp_path, text, says=[alarm, "refuses"])
    it = player(book, "judge", labels=labels)

    def said(piece: str, more: str = "") -> dict[str, Any]:
        content = f"Data:\nDATA-77\n{piece}\nDATA-77{more}"
        asked = {"model": "m", "messages": [{"role": "user", "content": content}]}
        body = it.decide(call(json.dumps(asked), "/chat/completions"), 0).answer.body
        found: dict[str, Any] = json.loads(body)["choices"][0]["message"]
        return found

    assert json.loads(said(text)["content"]) == alarm
    assert said(text, "\n\nIt did not fit.")["refusal"]
    assert json.loads(said("another")["content"])["adult_needed"] is False
    book.settle()
    taken = book._db.execute("select what from taken order by rowid").fetchall()
    assert taken == [("hold",), ("refuses",), ("pass",)]
