"""Clauses that a contract denies, in the clauses' own words: they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.clauses.denials import undenied
from stages.clauses.reading import load_types, read_clause, sections_of

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
FILES = {path.name: path.read_text(encoding="utf-8") for path in RULES.glob("*.toml")}
TYPES = load_types(FILES)


DENIED = """
insurance: Supplier shall not be required to carry or maintain any insurance.
insurance: The parties agree that insurance is not required.
insurance: No insurance is required under this Agreement, and no certificate of
    insurance need be shown.
insurance: Supplier has no obligation to maintain insurance under this Agreement.
insurance: 8. Insurance. Neither party is required to maintain insurance under this
    Agreement.
insurance: Nothing in this Agreement requires Supplier to maintain insurance.
exclusivity: No exclusivity is granted hereunder.
exclusivity: 12. Exclusivity. There is no exclusivity, and each party may deal with
    others.
exclusivity: Distributor shall not be obligated to purchase the Products exclusively
    from Supplier.
exclusivity: Supplier does not appoint Distributor as its exclusive distributor.
minimum_commitment: Buyer has no obligation to purchase any minimum quantity per year.
minimum_commitment: Buyer makes no minimum purchase commitment per year and shall
    order as it pleases.
minimum_commitment: This Agreement contains no minimum commitment, and no minimum
    annual fee shall be required.
audit_rights: Neither party may audit the books and records of the other.
audit_rights: Licensor shall not have the right to audit the books and records of
    Licensee.
audit_rights: Licensor shall not be entitled to inspect the books of Licensee.
audit_rights: Licensor waives any right to audit the books and records of Licensee.
audit_rights: No party shall have any right to audit the books and records of the
    other.
license_grant: Nothing in this Agreement grants Licensee any license to use the
    Software.
license_grant: No license is granted to use the Software.
license_grant: Licensor does not grant Licensee any license to use the Software.
non_compete: Nothing in this Agreement shall prevent either party from engaging in any
    business in competition with the other.
non_compete: Distributor shall not be prohibited from selling products that compete
    with the Products.
no_solicit_of_employees: Neither party is prohibited from soliciting or hiring the
    employees of the other.
no_solicit_of_employees: Nothing herein restricts a party from soliciting employees of
    the other.
anti_assignment: Neither party is required to obtain the consent of the other to
    assign this Agreement.
anti_assignment: Either party may assign this Agreement without the consent of the
    other.
termination_for_convenience: Neither party may terminate this Agreement for
    convenience.
termination_for_convenience: Customer shall have no right to terminate this Agreement
    without cause.
renewal_term: This Agreement shall not automatically renew for additional terms of one
    year.
renewal_term: There is no automatic renewal of the term for successive one year
    periods.
most_favored_nation: Supplier is not required to offer Buyer prices no less favorable
    than those offered to other customers.
source_code_escrow: Licensor shall have no obligation to deposit the source code in
    escrow.
revenue_profit_sharing: No royalty of 5% of net sales shall be payable.
liquidated_damages: No liquidated damages shall be payable for delay.
warranty_duration: Supplier does not provide any warranty for a period of 12 months
    from delivery.
rofr_rofo_rofn: Nothing herein grants Licensee a right of first refusal.
joint_ip_ownership: There shall be no joint ownership of intellectual property.
ip_ownership_assignment: Nothing in this Agreement shall be construed to assign to the
    Company any inventions of Consultant.
upfront_payment: No upfront payment is due.
training: Supplier is not obligated to provide training to Customer personnel.
"""
SAID = """
insurance: Supplier shall maintain insurance of $1,000,000 and shall not be required
    to insure the goods of others.
insurance: Supplier shall not be required to maintain insurance in excess of
    $1,000,000.
audit_rights: Licensor may audit the books and records of Licensee but shall not be
    entitled to copy them.
audit_rights: Licensor shall not be entitled to inspect the books and records more
    than once a year.
minimum_commitment: Buyer shall purchase a minimum of 500 units per year and has no
    obligation to purchase more.
exclusivity: Supplier hereby appoints Distributor as its exclusive distributor, and
    nothing herein grants it any license.
non_compete: Neither party shall engage in any business in competition with the other.
no_solicit_of_customers: Seller shall not solicit any customer of the Company.
anti_assignment: Neither party may assign this Agreement without the prior written
    consent of the other.
license_grant: Licensor grants Licensee a non-exclusive license to use the Software,
    and Licensee has no right to sublicense it.
non_transferable_license: Licensor grants a non-transferable license to use the
    Software; no title is granted.
cap_on_liability: Neither party shall be liable for any consequential damages.
termination_for_convenience: Customer may terminate this Agreement for convenience and
    shall have no obligation to pay damages.
"""


def cases(lines: str) -> list[tuple[str, str]]:
    """Lines of `type: sentence`; what is set in goes on with the line above."""
    whole = lines.replace("\n    ", " ").strip().splitlines()
    split = (line.split(": ", 1) for line in whole)
    return [(name, text) for name, text in split]


@pytest.mark.parametrize(("name", "text"), cases(DENIED))
def test_what_is_denied_is_not_there(name: str, text: str) -> None:
    """A right, a duty or a prohibition that the sentence says there is none of."""
    assert read_clause(TYPES[name], text, sections_of(text)).verdict == "absent"


@pytest.mark.parametrize(("name", "text"), cases(SAID))
def test_a_no_elsewhere_in_the_sentence_denies_nothing(name: str, text: str) -> None:
    """Prohibitions, bounds, conditions, and a denial of something else."""
    assert read_clause(TYPES[name], text, sections_of(text)).verdict == "present"


def test_what_is_denied_goes_and_the_rest_stays() -> None:
    """From the words that deny to where the sentence says something of its own."""
    line = "seller insures the goods; buyer is not required to insure, but shall pay"

    assert (
        undenied(line, "grants") == "seller insures the goods; buyer is , but shall pay"
    )
    assert undenied(line, "any") is line
