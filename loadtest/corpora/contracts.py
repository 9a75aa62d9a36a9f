"""
Contracts of the demo: short, in plain English law, and all made here.

No file and no sentence is copied from anywhere.  A seed decides parties, dates, sums
and which clauses a contract has; two of the eight have something that a lawyer must
see: a date of expiry that its term does not come to, and no word on the governing law.
"""

from __future__ import annotations

import json
import random
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

from loadtest.corpora.letters import DemoFile
from loadtest.hostile.bundles import docx, paragraph

CONTRACTS = 8
NUMBERS = ("zero", "one", "two", "three", "four", "five")
STATES = ("Delaware", "New York", "Ohio", "Texas", "Oregon", "Illinois")
COMPANIES = (
    ("Aldermoor Instruments", "Inc.", "corporation"),
    ("Brightwater Foods", "LLC", "limited liability company"),
    ("Cinderhall Logistics", "Inc.", "corporation"),
    ("Dunmere Software", "LLC", "limited liability company"),
    ("Eastlow Packaging", "Corp.", "corporation"),
    ("Fernwick Analytics", "Inc.", "corporation"),
    ("Greystone Harbor Supply", "LLC", "limited liability company"),
    ("Hollin Street Press", "Inc.", "corporation"),
    ("Ironbridge Tooling", "Corp.", "corporation"),
    ("Juniper Vale Dairy", "LLC", "limited liability company"),
)
# Title, what the two parties are called, and what one does for the other.
KINDS = (
    ("Supply Agreement", "Supplier", "Buyer", "supply the goods listed in Annex 1"),
    ("Distribution Agreement", "Company", "Distributor", "supply its products"),
    ("Software License Agreement", "Licensor", "Licensee", "deliver the software"),
    ("Consulting Agreement", "Consultant", "Client", "advise on its processes"),
    ("Hosting Agreement", "Host", "Customer", "host the web site of the Customer"),
    ("Maintenance Agreement", "Contractor", "Owner", "maintain the equipment"),
    ("Marketing Agreement", "Agency", "Principal", "plan and place advertising"),
    ("Warehousing Agreement", "Keeper", "Depositor", "store and handle the goods"),
)
WRONG_EXPIRY, NO_LAW = 5, 6  # of KINDS: those that are held

# One text in one face: typst's own, so that every machine makes the same bytes.
PAGE = """
#let data = json(bytes(sys.inputs.data))
#set document(title: data.title, date: none)
#set page(
  paper: "a4",
  margin: 30mm,
  footer: context align(center, counter(page).display()),
)
#set text(font: "Libertinus Serif", size: 11pt)
#set par(justify: true, leading: 0.7em, spacing: 1.1em)
#align(center, text(size: 14pt, weight: "bold", upper(data.title)))
#v(1em)
#for section in data.sections {
  par[#if section.heading != "" [*#section.heading* ]#section.text]
}
#v(1.5em)
#for line in data.signed { block(breakable: false, line) }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A numbered section; the preamble has no heading."""

    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract as it is written, before it is a file."""

    title: str
    sections: tuple[Section, ...]
    signed: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it."""
        parts = [f"{s.heading} {s.text}".strip() for s in self.sections]
        return "\n".join([self.title.upper(), *parts, *self.signed])


def contract_files(folder: Path, *, seed: int = 1) -> list[DemoFile]:
    """Write the eight contracts into `folder`, and say what must become of each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(CONTRACTS):
        made = contract(number, seed)
        kind = "docx" if number in (1, 3, 6) else "pdf"
        data = as_docx(made) if kind == "docx" else as_pdf(made)
        name = f"{made.title.lower().replace(' ', '-')}.{kind}"
        path = folder / name
        path.write_bytes(data)
        held = number in (WRONG_EXPIRY, NO_LAW)
        files.append(DemoFile(path, "held" if held else "done", kind, made.text))
    return files


def contract(number: int, seed: int = 1) -> Contract:
    """The contract of this number, 0 to 7; the same seed writes the same."""
    rng = random.Random(f"{seed}/{number}")
    title, giver, taker, work = KINDS[number % len(KINDS)]
    one, other = rng.sample(COMPANIES, 2)
    home, abroad = rng.sample(STATES, 2)
    day = date(2025, rng.randint(1, 12), rng.randint(1, 28))
    years = rng.randint(2, 5)
    names = (f"{one[0]}, {one[1]}", f"{other[0]}, {other[1]}")
    ends = _later(day, years + (1 if number == WRONG_EXPIRY else 0))
    opening = (
        f"This {title} (this “Agreement”) is made and entered into as of "
        f"{_written(day)} (the “Effective Date”) by and between {names[0]}, {_a(home)} "
        f"{one[2]} (“{giver}”), and {names[1]}, {_a(abroad)} {other[2]} (“{taker}”)."
    )
    term = (
        f"This Agreement commences on the Effective Date and continues for an initial "
        f"term of {NUMBERS[years]} ({years}) years, and shall expire on "
        f"{_written(ends)}, unless it is terminated earlier as provided herein."
    )
    body = [
        ("Scope", f"{giver} shall {work}, with reasonable skill and care."),
        ("Term", term),
        *_chosen(rng, giver, taker, home, with_law=number != NO_LAW),
    ]
    sections = [Section("", opening)]
    sections += [
        Section(f"{n}. {head}.", text) for n, (head, text) in enumerate(body, 1)
    ]
    witness = (
        "IN WITNESS WHEREOF, the parties have caused this Agreement to be executed by "
        "their duly authorized representatives."
    )
    signed = [witness]
    for name in names:
        signed += [name.upper(), "By: ______________________", "Title: Director"]
    return Contract(title, tuple(sections), tuple(signed))


def _chosen(
    rng: random.Random, giver: str, taker: str, state: str, *, with_law: bool
) -> Iterator[tuple[str, str]]:
    """The other sections: most of them, never the same ones."""
    fee = rng.randrange(12, 96) * 1000
    always = [
        (
            "Fees and Payment",
            f"{taker} shall pay {giver} a fee of ${fee:,} per year. Invoices are due "
            "within thirty (30) days after receipt.",
        ),
        (
            "Confidentiality",
            "Each party shall keep the Confidential Information of the other party in "
            "strict confidence and shall use it solely to perform this Agreement.",
        ),
    ]
    kept = [one for one in _optional(giver, taker, fee) if rng.random() < 0.75]
    last = [
        (
            "Notices",
            "Notices under this Agreement shall be in writing and shall be deemed "
            "given when delivered by courier to the address of the receiving party.",
        ),
        (
            "Entire Agreement",
            "This Agreement constitutes the entire agreement of the parties and may be "
            "amended only in writing signed by both parties.",
        ),
    ]
    law = (
        "Governing Law",
        "This Agreement shall be governed by and construed in accordance with the laws "
        f"of the State of {state}.",
    )
    yield from [*always, *kept, *([law] if with_law else []), *last]


def _optional(giver: str, taker: str, fee: int) -> list[tuple[str, str]]:
    """What a contract may have or not."""
    return [
        (
            "Renewal",
            "Upon expiry this Agreement shall automatically renew for successive terms "
            "of one (1) year each, unless either party gives the other written notice "
            "of non-renewal at least ninety (90) days before the end of the then "
            "current term.",
        ),
        (
            "Termination for Convenience",
            "Either party may terminate this Agreement at any time without cause upon "
            "sixty (60) days’ prior written notice to the other party.",
        ),
        (
            "Limitation of Liability",
            "In no event shall the aggregate liability of either party under this "
            f"Agreement exceed ${fee * 2:,}.",
        ),
        (
            "Insurance",
            f"{giver} shall maintain, at its own expense, commercial general liability "
            "insurance with limits of not less than $1,000,000 per occurrence.",
        ),
        (
            "Audit",
            f"{taker} shall have the right, upon ten (10) days’ notice, to audit the "
            f"books and records of {giver} that relate to this Agreement.",
        ),
        (
            "Warranty",
            f"{giver} warrants for a period of twelve (12) months after delivery that "
            "what it delivers is free from defects in material and workmanship.",
        ),
        (
            "Assignment",
            "Neither party may assign this Agreement without the prior written consent "
            "of the other party.",
        ),
    ]


def _a(state: str) -> str:
    return f"{'an' if state[0] in 'AEIO' else 'a'} {state}"


def _written(day: date) -> str:
    return f"{day:%B} {day.day}, {day.year}"


def _later(day: date, years: int) -> date:
    """The last day of a term that begins on `day`."""
    year = day.year + years
    same = date(year, day.month, min(day.day, monthrange(year, day.month)[1]))
    return same - timedelta(days=1)


# -- files ----------------------------------------------------------------------------


def as_pdf(made: Contract) -> bytes:
    """The contract as a PDF with a text layer, some two pages."""
    import typst

    data = {
        "title": made.title,
        "sections": [{"heading": s.heading, "text": s.text} for s in made.sections],
        "signed": made.signed,
    }
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)
    compiler = typst.Compiler(PAGE.encode(), font_paths=fonts)
    pdf = compiler.compile(
        PAGE.encode(), format="pdf", sys_inputs={"data": json.dumps(data)}
    )
    assert isinstance(pdf, bytes)
    return pdf


def as_docx(made: Contract) -> bytes:
    """The contract as a Word document."""
    lines: Sequence[str] = [
        made.title.upper(),
        *(f"{s.heading} {s.text}".strip() for s in made.sections),
        *made.signed,
    ]
    return docx("".join(paragraph(escape(line)) for line in lines))
