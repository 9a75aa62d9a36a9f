"""Effects happen once, whoever is killed meanwhile: a slice of the run."""

from __future__ import annotations

from loadtest.scenarios import effects


def test_a_book_is_laid_beside_what_we_say() -> None:
    """What was done twice, otherwise, unbidden or never is seen."""
    states = {"a": "confirmed", "b": "confirmed", "c": "in_doubt", "d": "in_doubt"}
    taken = {"a": ["x", "x"], "c": ["y"], "z": ["q", "r"]}

    found = effects._against(states, taken)

    assert (found["twice"], found["bodies"], found["unbidden"]) == (2, 1, 1)
    assert (found["lost"], found["in_doubt"], found["doubted_and_done"]) == (1, 2, 1)


def test_killed_workers_send_nothing_twice() -> None:
    """By the receivers' own count; each doubt is listed."""
    told: list[str] = []

    result = effects.run(told.append, items=40, kills=4)

    assert result["good"], result
    assert (result["duplicates"], result["lost"]) == (0, 0)
    assert result["in_doubt"] == result["in_doubt_listed"]
    assert result["receivers"]["crm"]["confirmed"] == 40
