"""State: the fold of what stages found, checked on the way in, storable always."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel
from pydantic_core import from_json

from pipeline.errors import Permanent
from pipeline.state import Channels, clean_text, encode, result_adapter
from tests.unit.engine import Letter

CHANNELS = Channels(Letter)
# Every character there is, and the ones that no database takes, more often.
ANY_TEXT = st.text(
    st.one_of(
        st.characters(), st.sampled_from("\x00\ud800\udfff\\\"'\u2028"), st.just("a")
    )
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)


def strings(value: Any) -> list[str]:
    """Every string in plain data, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for pair in value.items() for v in pair for s in strings(v)]
    return [s for v in value for s in strings(v)] if isinstance(value, list) else []


# -- channels --------------------------------------------------------------------------


def test_each_channel_joins_old_and_new_by_its_reducer() -> None:
    """Replace, append, merge, add; channels that are not named stay."""
    state = CHANNELS.initial({"text": "old", "pence": 3})
    first = {"trail": ["a"], "pages": {"1": "x", "2": "y"}, "pence": 4}
    second = {"text": "new", "trail": ["b"], "pages": {"2": "z"}}

    for updates in (first, second):
        state = CHANNELS.apply(state, CHANNELS.validate(updates))

    assert state == Letter(
        text="new", trail=["a", "b"], pages={"1": "x", "2": "z"}, pence=7
    )


def test_a_state_that_was_handed_out_never_changes() -> None:
    """Whoever holds the old state still sees the old one."""
    old = CHANNELS.initial({"trail": ["a"], "pages": {"1": "x"}})

    CHANNELS.apply(old, CHANNELS.validate({"trail": ["b"], "pages": {"1": "y"}}))

    assert old == Letter(trail=["a"], pages={"1": "x"})


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "text": ANY_TEXT,
                "trail": st.lists(ANY_TEXT, max_size=3),
                "pages": st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
                "pence": st.integers(-1000, 1000),
            },
        ),
        max_size=8,
    )
)
def test_stored_updates_fold_to_what_the_stages_saw(
    updates: list[dict[str, Any]],
) -> None:
    """State = fold of updates, from memory and from their stored texts alike."""
    cleaned = [from_json(encode(u)) for u in updates]
    state = CHANNELS.initial({})
    for update in cleaned:
        state = CHANNELS.apply(state, CHANNELS.validate(update))

    folded = CHANNELS.fold({}, [encode(u) for u in updates])

    assert folded == state


@pytest.mark.parametrize(
    ("updates", "named"),
    [({"pence": "secret"}, "pence"), ({"nothing": "secret"}, "nothing")],
)
def test_a_bad_update_names_the_channel_and_never_the_value(
    updates: dict[str, Any], named: str
) -> None:
    """What is wrong is said; what a child wrote is not."""
    with pytest.raises(Permanent) as refused:
        CHANNELS.validate(updates)

    said = f"{refused.value.message} {refused.value.hint}"
    assert refused.value.code == "BAD_UPDATE"
    assert named in said
    assert "secret" not in said


def test_a_bad_input_names_the_field_and_never_the_value() -> None:
    """The same at the door."""
    with pytest.raises(Permanent) as refused:
        CHANNELS.initial({"pages": {"1": ["secret"]}})

    assert refused.value.code == "BAD_INPUT"
    assert "pages" in refused.value.message
    assert "secret" not in refused.value.message


def test_values_that_a_reducer_cannot_join_are_a_bad_update() -> None:
    """Refused before it is stored: it would never fold."""
    state = CHANNELS.initial({})

    with pytest.raises(Permanent) as refused:
        CHANNELS.apply(state, CHANNELS.validate({"odd": 7}))

    assert refused.value.code == "BAD_UPDATE"


# -- what can be stored ----------------------------------------------------------------


@given(PLAIN)
def test_whatever_is_stored_has_no_nul_and_no_lone_surrogate(value: Any) -> None:
    """PostgreSQL's text and jsonb take it, whatever OCR, people or vendors wrote."""
    text = encode({"value": value})

    text.encode("utf-8")
    found = strings(from_json(text))
    assert not any("\x00" in s for s in found)
    assert not any("\ud800" <= c <= "\udfff" for s in found for c in s)


@given(PLAIN)
def test_what_needs_no_cleaning_is_stored_as_it_is(value: Any) -> None:
    """Cleaning takes out what cannot be stored, and nothing else."""
    said = strings(value)
    clean = all(clean_text(s) == s for s in said)

    kept = from_json(encode({"value": value}))["value"]

    assert (kept == value) or not clean


def test_an_escaped_nul_is_text_and_stays() -> None:
    r"""A letter may spell out backslash, u, 0000: six harmless characters."""
    assert from_json(encode({"text": r"\u0000"})) == {"text": r"\u0000"}


def test_models_are_stored_by_their_fields_also_where_they_need_cleaning() -> None:
    """A model inside an update is opened and cleaned like plain data."""
    kept = from_json(encode({"anything": [Letter(text="a\ud800b\x00c")]}))

    assert kept["anything"][0]["text"] == "abc"


def test_a_value_without_json_is_refused_by_name_of_the_fault() -> None:
    """An object that no JSON can hold is a bug of the stage: BAD_UPDATE."""
    with pytest.raises(Permanent) as refused:
        encode({"anything": object()})

    assert refused.value.code == "BAD_UPDATE"


# -- results of steps ------------------------------------------------------------------


class Clause(BaseModel):
    """A step's result."""

    title: str
    pages: list[int]


async def as_model() -> Clause:
    return Clause(title="t", pages=[1])


async def as_list() -> list[Clause]:
    return [Clause(title="t", pages=[1])]


async def as_anything():  # type: ignore[no-untyped-def]  # the point of the test
    return {"title": "t"}


async def with_argument(number: int) -> Clause:
    return Clause(title=f"{number}", pages=[])


@pytest.mark.parametrize(
    ("step", "result"),
    [
        (as_model, Clause(title="t", pages=[1])),
        (as_list, [Clause(title="t", pages=[1])]),
        (as_anything, {"title": "t"}),
        (partial(with_argument, 7), Clause(title="7", pages=[])),
    ],
)
def test_a_steps_result_is_read_back_as_what_it_was(
    step: Callable[..., Any], result: Any
) -> None:
    """After a crash a stage gets models where it had models."""
    adapter = result_adapter(step)

    text = encode(adapter.dump_python(result, mode="json"))

    assert adapter.validate_json(text) == result


def test_the_steps_of_one_method_are_read_back_alike() -> None:
    """However often the method is looked up: to read its signature is dear."""

    class Talk:
        async def ran(self) -> int:
            return 1

    assert result_adapter(Talk().ran) is result_adapter(Talk().ran)


def test_a_fold_of_a_few_channels_reads_no_other() -> None:
    """What is not asked for may even be what no reducer can join."""
    channels = Channels(Letter)
    updates = ['{"text": "a", "odd": 1}', '{"pence": 2, "odd": 2}', '{"pence": 3}']

    state = channels.fold({}, updates, only=("text", "pence"))

    assert state.model_dump(include=state.model_fields_set) == {"text": "a", "pence": 5}


def quoting(text: str) -> str:
    raise ValueError(f"{text} is not one of them")


class Told(BaseModel):
    number: float = 0.0
    picked: Annotated[str, AfterValidator(quoting)] = ""
    day: date | None = None


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"number": "SECRET"}, "should be a valid number"),
        ({"picked": "SECRET"}, "value_error"),
        ({"day": "SECRET"}, "date_from_datetime_parsing"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_in_words_and_never_by_what_it_is(update, said):
    """An author's own words may quote it, and a parser's."""
    with pytest.raises(Permanent) as refused:
        Channels(Told).validate(update)

    assert said in refused.value.message
    assert "SECRET" not in refused.value.message
