"""
Compatibility by rules: what a part bears, what fits, and what is said of a rule file.

Properties are held over parts drawn from the rules of the example, right and wrong.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import Usage
from pipeline.faults import faults_of
from stages.fitting import units
from stages.fitting.checker import Fits, check, part_rating, rating
from stages.fitting.parts import Assembly, Duty, End, Part, assembled
from stages.fitting.rulebook import load
from stages.fitting.substitutes import substitutes

RULES = Path(__file__).parents[2] / "examples" / "quotes" / "rules"
FILES = {path.name: path.read_text(encoding="utf-8") for path in RULES.glob("*.toml")}
BOOK = load(FILES)
HOT_OIL = Duty("mineral oil", Decimal(120), Decimal(210))
WARM_OIL = Duty("mineral oil", Decimal(80), Decimal(210))
SIZES = sorted(BOOK.sizes)


def hose(standard: str = "4SP", tube: str = "HNBR", size: int = 12) -> Part:
    number = f"H-{standard}-{tube}-{size}"
    return Part(
        number=number, kind="hose", size=size, standard=standard, materials=(tube,)
    )


def fitting(
    thread: str = "jic",
    gender: str = "female",
    series: str = "S",
    size: int = 12,
    materials: tuple[str, ...] = ("steel",),
) -> Part:
    return Part(
        number=f"F-{thread}-{gender}-{series}-{size}-{materials[0]}",
        kind="fitting",
        size=size,
        series=series,
        materials=materials,
        ends=(End(thread=thread, size=size, gender=gender),),
    )


# -- properties -----------------------------------------------------------------------

TUBES = [*BOOK.materials, "PTFE"]  # one that no rule speaks of
hoses = st.builds(
    hose,
    st.sampled_from([*BOOK.hoses, "R15"]),
    st.sampled_from(TUBES),
    st.sampled_from(SIZES),
)
fittings = st.builds(
    fitting,
    st.sampled_from([*BOOK.threads, "m24"]),
    st.sampled_from(["male", "female"]),
    st.sampled_from(["B", "S", "X"]),
    st.sampled_from(SIZES),
    st.lists(st.sampled_from(TUBES), min_size=1, max_size=2).map(tuple),
)
parts = st.one_of(hoses, fittings)
heats = st.decimals(-60, 220, places=1)
duties = st.builds(
    Duty,
    st.sampled_from([*BOOK.media, "milk", None]),
    st.none() | heats,
    st.none() | st.decimals(1, 700, places=1),
    st.none() | st.decimals(50, 700, places=0),
)


def bears(bar: Decimal | None) -> Decimal:
    """What may be counted on: nothing where it is not known."""
    return Decimal(0) if bar is None else bar


@given(st.lists(parts, min_size=1, max_size=5), parts, heats)
@settings(max_examples=120, deadline=None)
def test_adding_a_part_never_raises_a_rating(some, more, celsius):
    """A chain is as strong as its weakest link."""
    alone = rating(some, celsius, BOOK)

    assert bears(rating([*some, more], celsius, BOOK)) <= bears(alone)


@given(st.lists(parts, min_size=1, max_size=4), heats, heats)
@settings(max_examples=120, deadline=None)
def test_hotter_never_rates_higher(some, one, other):
    """By any rules that can be loaded."""
    cold, hot = sorted((one, other))

    assert bears(rating(some, hot, BOOK)) <= bears(rating(some, cold, BOOK))


@given(hoses, fittings, fittings, duties, st.permutations(["hose", "a", "b"]))
@settings(max_examples=120, deadline=None)
def test_the_order_of_parts_changes_nothing(body, one, other, duty, order):
    """Neither the verdict nor a reason nor what it bears."""
    places = {"hose": body, "a": one, "b": other}
    joints = frozenset({frozenset({"hose", "a"}), frozenset({"b", "hose"})})

    first = check(Assembly(places, joints), duty, BOOK)
    again = check(Assembly({p: places[p] for p in order}, joints), duty, BOOK)

    assert first == again


@given(hoses, fittings, fittings, duties)
@settings(max_examples=120, deadline=None)
def test_what_passes_is_known_and_bears_what_is_asked(body, one, other, duty):
    """Nobody is told yes where a rule is missing or a value was not given."""
    finding = check(assembled(body, one, other), duty, BOOK)

    unsaid = None in (duty.medium, duty.celsius, duty.bar) or duty.medium == "milk"
    foreign = body.standard == "R15" or "m24" in (one.ends + other.ends)[0].thread
    if unsaid or foreign:
        assert finding.fits is not Fits.YES
    if finding.fits is Fits.YES:
        assert finding.bar >= duty.bar
    assert all(reason.why for reason in finding.reasons)


@pytest.mark.parametrize("unit", units.PRESSURES)
@given(number=st.decimals(0, 100_000, places=3))
def test_pressures_convert_both_ways(unit, number):
    """To a millionth of what was said."""
    back = units.from_bar(units.to_bar(number, unit), unit)

    assert back.quantize(Decimal("1e-6")) == number


@pytest.mark.parametrize("unit", units.LENGTHS)
@given(number=st.decimals(0, 100_000, places=3))
def test_lengths_convert_both_ways(unit, number):
    back = units.from_mm(units.to_mm(number, unit), unit)

    assert back.quantize(Decimal("1e-6")) == number


@pytest.mark.parametrize("unit", units.TEMPERATURES)
@given(number=st.decimals(-200, 1000, places=3))
def test_temperatures_convert_both_ways(unit, number):
    back = units.from_celsius(units.to_celsius(number, unit), unit)

    assert back.quantize(Decimal("1e-6")) == number


@given(st.integers(1, units.DASH_MAX))
def test_sizes_convert_both_ways(dash):
    """Dash, inches and mm are the same size."""
    assert units.dash_of(f"{units.inches(dash)} in") == dash
    assert units.dash_of(f"-{dash}") == dash
    assert units.mm_of(dash) * 16 / units.INCH_MM == dash


# -- what fits ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "dash"),
    [
        *(("-12", 12), ("-04", 4), ("3/4 in", 12), ("1 1/4 in", 20), ("2 in", 32)),
        *(("DN 19", 12), ("19 mm", 12), ("51 mm", 32), ("12/16 in", 12)),
    ],
)
def test_sizes_are_read_in_three_ways(said, dash):
    assert BOOK.size(said) == dash


@pytest.mark.parametrize(
    "said", ["12", "19", "-0", "1/3 in", "1/0 in", "20 mm", "-99", "3/4"]
)
def test_a_size_that_means_two_things_or_none_is_refused(said):
    with pytest.raises(ValueError, match=r"size|divided"):
        BOOK.size(said)


def test_hot_oil_at_210_bar_passes_with_its_reasons():
    """Spiral hose with HNBR: 350 bar less a tenth; the NPT end limits it to 210."""
    asked = assembled(hose(), fitting(), fitting("npt", "male"))

    finding = check(asked, HOT_OIL, BOOK)

    assert (finding.fits, finding.bar) == (Fits.YES, 210)
    limit = next(r for r in finding.reasons if r.rule == "pressure of the assembly")
    assert limit.parts == ("other end F-npt-male-S-12-steel",)
    heat = next(r for r in finding.reasons if r.rule == "heat of HNBR")
    assert heat.why.endswith("with 90 % of its pressure")
    assert heat.at.startswith("materials.toml:")


@pytest.mark.parametrize(
    ("part", "duty", "rule"),
    [
        (hose("2SN", "NBR"), HOT_OIL, "heat of NBR"),
        (hose("4SP", "EPDM"), WARM_OIL, "mineral oil with EPDM"),
        (hose("1SN", "NBR"), WARM_OIL, "pressure of the assembly"),
        (hose(size=16), WARM_OIL, "bore"),
        (hose("1SN", "NBR"), WARM_OIL, "crimp S on 1SN"),
        (hose(), Duty("water glycol", Decimal(80), Decimal(9)), "water glycol with"),
        (hose(), Duty("mineral oil", Decimal(80), Decimal(9), Decimal(299)), "bend"),
        (hose(), replace(WARM_OIL, coldest=Decimal(-31)), "heat of HNBR"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_rule_that_forbids_it(part, duty, rule):
    finding = check(assembled(part, fitting(), fitting("npt", "male")), duty, BOOK)

    assert finding.fits is Fits.NO
    assert any(
        reason.rule.startswith(rule) and reason.fits is Fits.NO
        for reason in finding.against()
    )


@pytest.mark.parametrize(
    ("part", "duty", "rule"),
    [
        (hose("R15"), WARM_OIL, "hose R15"),
        (hose("4SH", size=8), WARM_OIL, "hose 4SH"),
        (hose(tube="PTFE"), WARM_OIL, "heat of PTFE"),
        (hose("2SN", "NBR"), WARM_OIL, "crimp S on 2SN"),
        (hose(), Duty("milk", Decimal(80), Decimal(9)), "milk with HNBR"),
        (hose(), Duty(None, Decimal(80), Decimal(9)), "medium with HNBR"),
        (hose(), Duty("mineral oil", None, Decimal(9)), "heat of HNBR"),
        (hose(), Duty("mineral oil", Decimal(80)), "pressure of the assembly"),
    ],
)
def test_what_no_rule_speaks_of_is_unknown(part, duty, rule):
    """A person must look; nothing is taken for good because nobody forbade it."""
    finding = check(
        assembled(part, fitting(size=part.size), fitting(size=part.size)), duty, BOOK
    )

    assert finding.fits is Fits.UNKNOWN
    assert rule in {reason.rule for reason in finding.against()}


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (("jic", "male"), ("jic", "female"), Fits.YES),
        (("jic", "male"), ("jic", "male"), Fits.NO),
        (("jic", "female"), ("sae45", "male"), Fits.NO),
        (("npt", "male"), ("bspt", "female"), Fits.NO),
        (("bspp", "female"), ("bspt", "male"), Fits.UNKNOWN),
        (("m24", "male"), ("m24", "female"), Fits.UNKNOWN),
    ],
)
def test_ends_mate_by_thread_seat_and_gender(one, other, fits):
    """-8 of JIC and of SAE 45° have one thread and two seats: they never mate."""
    pair = {"a": fitting(*one, size=8), "b": fitting(*other, size=8)}

    for places in (pair, dict(zip("ba", pair.values(), strict=True))):
        finding = check(Assembly(places, frozenset({frozenset("ab")})), WARM_OIL, BOOK)
        [joint] = [r for r in finding.reasons if r.rule.startswith("mating")]
        assert joint.fits is fits


def test_two_sizes_of_one_thread_do_not_mate():
    pair = {"a": fitting("jic", "male", size=8), "b": fitting(size=12)}

    finding = check(Assembly(pair, frozenset({frozenset("ab")})), WARM_OIL, BOOK)

    assert finding.against()[0].why == "two sizes, 3/4 in and 1/2 in"


def test_a_makers_own_limit_counts_where_it_is_less():
    weak = hose().model_copy(update={"bar": Decimal(99)})

    assert part_rating(weak, Decimal(20), BOOK) == 99
    assert part_rating(hose(), Decimal(20), BOOK) == 350


# -- substitutes ----------------------------------------------------------------------


def test_substitutes_do_what_was_meant_and_pass():
    """Too hot for NBR: another hose, and with it the fittings that go on it."""
    asked = assembled(
        hose("2SN", "NBR"), fitting(series="B"), fitting("npt", "male", "B")
    )
    catalogue = [
        *(hose(kind, tube) for kind in BOOK.hoses for tube in ("NBR", "HNBR", "EPDM")),
        *(fitting(series=series) for series in "BS"),
        *(fitting("npt", "male", series) for series in "BS"),
    ]

    found = substitutes(asked, HOT_OIL, catalogue, BOOK)

    # 2SN of HNBR bears 193.5 bar so hot, which is not enough: three parts change.
    assert [one.assembly.parts["hose"].number for one in found] == [
        *("H-4SH-HNBR-12", "H-4SP-HNBR-12"),
    ]
    assert found[0].changed == ("hose", "one end", "other end")
    assert all(one.finding.fits is Fits.YES for one in found)


def test_nothing_stands_in_where_the_catalogue_has_nothing():
    asked = assembled(hose("2SN", "NBR"), fitting(series="B"), fitting(series="B"))

    assert substitutes(asked, HOT_OIL, [hose("1SN", "NBR")], BOOK) == []


# -- rule files -----------------------------------------------------------------------


def faults(**changed: tuple[str, str]) -> list[str]:
    """What is said of the example's files when one text of a file is another."""
    files = dict(FILES)
    for name, (old, new) in changed.items():
        assert old in files[f"{name}.toml"]
        files[f"{name}.toml"] = files[f"{name}.toml"].replace(old, new, 1)
    with pytest.raises(Usage) as caught:
        load(files)
    assert {error.code for error in faults_of(caught.value)} == {"RULES_INVALID"}
    return [error.message for error in faults_of(caught.value)]


def line(name: str, text: str) -> int:
    """The line of a file of the example on which a text stands."""
    before, found, _ = FILES[f"{name}.toml"].partition(text)
    assert found
    return before.count("\n") + 1


def test_a_unit_that_is_none_is_said_with_file_line_and_rule():
    [said] = faults(hoses=('pressure = "415 bar"', 'pressure = "415 atm"'))

    at = line("hoses", 'pressure = "415 bar"')
    assert said == (
        f"hoses.toml:{at}: hose 4SP: hose.3.ratings.2.pressure: "
        "the unit is one of bar, mbar, kPa, MPa, psi"
    )


def test_a_number_without_a_unit_is_no_pressure():
    [said] = faults(hoses=('"415 bar"', '"415"'))

    assert "write a number and its unit" in said


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("hoses", 'size = "-5", ', 'size = "-4", ', "size -4 is rated twice"),
        ("hoses", '{size = "-5"', '{size = "-7"', "there is no size -7"),
        ("hoses", 'none = ["-5"]\n', "", "nothing is said of size -5"),
        ("hoses", "180 bar", "218 bar", "size -6 is rated above the smaller -5"),
        ("hoses", ', bend = "115 mm"', "", "it has no bend"),
        ("threads", '"-5"', '"-24"', "size -24 is rated twice"),
        ("materials", '"135 °C"', '"115 °C"', "they overlap"),
        ("materials", '"0.80"', '"0.95"', "a hotter one has a larger share"),
        ("materials", 'share = "1"', 'share = "1.5"', "write a share from 0 to 1"),
        ("media", 'never = ["EPDM"]', "", "nothing is said of material EPDM"),
        ("media", '["EPDM"]', '["EPDM", "NBR"]', "NBR stands in good as well"),
        ("media", '["EPDM"]', '["EPDM", "GRP"]', "there is no material GRP"),
        ("crimps", '"4SP", "4SH"', '"4SP"', "nothing is said of hose 4SH"),
        ("matings", '"jic male", ', "", "nothing is said of jic male with jic male"),
        ("matings", '["sae45 female"]', '["jic female"]', "jic female says never"),
        ("matings", '"orfs male"]', '"orfs neuter"]', "should match pattern"),
        ("sizes", "dn = 8", "dn = 6", "DN 6 is size -4 already"),
        ("materials", 'name = "HNBR"', 'name = "NBR"', "it is stated already"),
        ("media", 'words = ["oil"', 'word = ["oil"', "is words meant?"),
        ("sizes", "[[size]]", "[[sizes]]", "is size meant?"),
        ("sizes", "dn = 6", "dn = ", "Invalid value"),
    ],
)
def test_a_rule_file_is_checked_when_it_is_loaded(name, old, new, said):
    """Units, overlaps and gaps: which file, where, and what is wrong."""
    found = [one for one in faults(**{name: (old, new)}) if said in one]

    assert found
    assert all(one.startswith(f"{name}.toml") for one in found)


def test_a_gap_is_said_where_it_is():
    said = faults(
        hoses=('  {size = "-6", pressure = "180 bar", bend = "130 mm"},\n', "")
    )

    at = line("hoses", 'name = "1SN"') + 3
    assert said[0].startswith(f"hoses.toml:{at}: hose 1SN: nothing is said of size -6")


def test_a_folder_without_rules_is_refused():
    with pytest.raises(Usage) as caught:
        load({})

    assert caught.value.code == "RULES_MISSING"
