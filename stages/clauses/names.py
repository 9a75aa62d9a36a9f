"""
Names: of companies, by their form in law, and of those that have none.

What is found is cut back to the name: no title above it, no number before it, and no
address that ends where it begins.  Every expression is bounded and linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.clauses.hits import Hit, same

BEFORE_CHARS = 40  # of a name, where a word stands that makes it another thing
SLOT_CHARS = 400  # before a definition, where the name it is of stands

# Forms that end with a full stop, which is part of the name.
_DOTTED = (
    r"(?:Inc|INC|L\.L\.C|Ltd|LTD|Corp|CORP|Co|CO|L\.P|L\.L\.P|S\.A|N\.V|B\.V|N\.A"
    r"|S\.p\.A|Pty|PTY|Pvt|PVT|G\.I\.E|S\.r\.l|S\.R\.L|S\.A\.R\.L)"
)
_UNDOTTED = (
    r"(?:Incorporated|INCORPORATED|LLC|Limited|LIMITED|Corporation|CORPORATION|Company"
    r"|COMPANY|LP|LLP|GmbH|GMBH|AG|SA|S/A|PLC|plc|Plc|Trust|TRUST|Bank|BANK"
    r"|University|UNIVERSITY|Partnership|PARTNERSHIP|AB|KG|KGaA|SRL|SARL|Foundation"
    r"|Association|ASSOCIATION|Fund|FUND|Institute|Hospital|Partners|PARTNERS|Group)"
)
_FORM = rf"(?:{_DOTTED}|{_UNDOTTED})"
# Forms that stand behind another: `Co., Ltd.`, `GmbH & Co. KG`, `Limited Liability
# Company`.
_SECOND = (
    r"(?:Ltd|LTD|Limited|LIMITED|LLC|L\.L\.C|LP|L\.P|LLP|Inc|INC|KG|Co|CO|Pty|PTY"
    r"|(?:Liability|LIABILITY)[ \t\n]{1,4}(?:Company|COMPANY|Partnership|PARTNERSHIP)"
    r"|Partnership|PARTNERSHIP)"
)
# No word of a name ends its sentence: `U.S.`, `St.` and `Alibaba.com` are none such.
_OF_A_NAME = (
    r"(?:(?:[A-Z]\.){1,4}|[A-Z][a-z]{1,2}\."
    r"|(?:[ei](?=[A-Z0-9]))?[A-ZÀ-ÖØ-Þ0-9][\w’'&/()-]{0,30}(?:\.[\w’'&/()-]{1,30}){0,4})"
)
_COMPANY = re.compile(
    rf"(?P<name>(?<![\w$.,]){_OF_A_NAME}"
    r"(?:,?[ \t\n]{1,4}(?:(?:of|and|for|the|&|de|of the)[ \t\n]{1,4})?"
    rf"[(]?{_OF_A_NAME}){{0,9}}?"
    rf",?[ \t\n]{{1,4}}{_FORM}(?:,?[ \t]{{1,3}}{_FORM}"
    rf"|\.?,?[ \t\n]{{1,4}}(?:&[ \t]{{1,3}})?{_SECOND}){{0,2}})(?!\w)"
)
_ENDS_DOTTED = re.compile(rf"(?<![\w.]){_DOTTED}\Z")
DOTTED_CHARS = 12  # more than the longest of them

# -- what stands before a name ---------------------------------------------------------

# A title on the line above is no part of the name, nor is an exhibit's number.
_TITLE_ABOVE = re.compile(
    r"(?i)\b(?:agreement|contract|exhibit[ \t]{1,3}[\w.-]{1,12})[ \t]{0,3}\n\s{0,6}"
)
_STATE = (
    r"(?:Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware"
    r"|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana"
    r"|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana"
    r"|Nebraska|Nevada|New[ \t]Hampshire|New[ \t]Jersey|New[ \t]Mexico|New[ \t]York"
    r"|North[ \t]Carolina|North[ \t]Dakota|Ohio|Oklahoma|Oregon|Pennsylvania"
    r"|Rhode[ \t]Island|South[ \t]Carolina|South[ \t]Dakota|Tennessee|Texas|Utah"
    r"|Vermont|Virginia|Washington|West[ \t]Virginia|Wisconsin|Wyoming|England"
    r"|Scotland|Ireland|Germany|France|Canada|Israel|China|Japan|Switzerland|India)"
)
_STREET = (
    r"(?:Street|Avenue|Ave|Road|Rd|Drive|Lane|Boulevard|Blvd|Parkway|Pkwy|Plaza|Suite"
    r"|Floor|Room|Highway|Hwy|Circle|Court|Building|Square|P\.?O\.?[ \t]Box|St\.?(?=,)"
    r"|Straße|Strasse)"
)
_AND = r"[,;)]{0,2}[ \t\n]{1,4}(?i:and|&|with)[ \t\n]{1,4}"
# Where an address is over that a name seems to begin with.
_ADDRESS_OVER = re.compile(
    # its code: 92618-1234, EC1A 4AB
    rf"\b\d{{5}}(?:-\d{{4}})?\b(?:{_AND}|[,;)]{{0,2}}[ \t\n]{{1,4}})"
    rf"|\b[A-Z]{{1,2}}\d{{1,2}}[A-Z]?[ \t]\d[A-Z]{{2}}\b"
    rf"(?:{_AND}|[,;)]{{0,2}}\s{{1,4}})"
    # or the state it lies in
    rf"|,[ \t\n]{{1,4}}(?i:{_STATE}){_AND}"
    # or a list in small letters, below it one in capitals
    r"|(?<=[a-z])[,;)]{0,2}[ \t\n]{1,4}AND[ \t\n]{1,4}"
    # or a date
    r"|\b(?:19|20)\d\d\b[,;]?[ \t\n]{1,4}"
)
_LAST_AND = re.compile(_AND)
_HAS_STREET = re.compile(rf"(?i)\b{_STREET}\b")
# `Sun Bank Plaza` is a house; behind `Limited` a house's number may stand.
_HOUSE_NEXT = re.compile(
    r"(?<=Bank|rust|BANK|RUST|pany|tion|sity)"
    r"[ \t]{1,3}(?:Street|Avenue|Plaza|Building|Tower|Centre|Center|Square|Circle)\b"
)
# `, and` after the first comma joins two, and is no part of a list of partners.
_TWO = re.compile(r"\A[^,]{1,80},[ \t\n]{1,4}and[ \t\n]{1,4}")
_FRONT = re.compile(
    r"(?:\(?(?:\d{1,2}|[ivxIVX]{1,4}|[a-zA-Z])\)[ \t\n]{1,4}"
    r"|\([^()\n]{1,30}\)[ \t\n]{1,4}"
    r"|(?:AND|And|BETWEEN|Between|BY|WITH)[ \t\n]{1,4})+"
)
# What makes a name a kind, a former name, or another company than the party.
_NOT_ITS_OWN = re.compile(
    r"(?:(?<!\w)(?:[Aa]n?|AN|at|AT)"
    r"|(?i:\b(?:formerly(?:[ \t]known[ \t]as)?|f/k/a|d/b/a|t/a|trading[ \t]as"
    r"|known[ \t]as|business[ \t]as|owned[ \t]by"
    r"|(?:division|subsidiary|affiliate|member|branch|unit)[ \t]of)))"
    r"[ \t\n]{1,4}[\"“]?\Z"
)
_A_KIND = re.compile(r"(?:A|An|AN)[ \t\n]{1,4}\w{3,}")
# Words that tell no company from another: forms, and what says the kind of one.
_GENERIC = re.compile(
    rf"(?i)(?:the|this|said|each|such|a|an|{_FORM}|limited|liability|private|public"
    r"|general|joint|stock|holding|services?|operating|parent|venture|professional"
    rf"|domestic|foreign|\d{{1,3}}|years?|{_STATE}|italian|chinese|german|french"
    r"|british|english|israeli|japanese|swiss|dutch|canadian|indian|irish|[,.&()\s])+\Z"
)
_BY_ARTICLE = re.compile(
    rf"(?:.{{0,200}}\s)?(?i:the|this|each)\s{{1,4}}"
    rf"(?:(?i:holding|parent|operating|surviving|target)\s{{1,4}})?{_FORM}\Z",
    re.DOTALL,
)
_NO_PARTY = re.compile(
    r"(?i)^(?:the )?(?:agreement|contract|effective date|parties|party|this|exhibit.*"
    r"|services?|products?|term|territory|.*\bagreement|execution date|date"
    r"|joint venture(?:r?s)?|amendment|offering|transaction|.*\bdate)$"
)


def companies(text: str, begin: int, stop: int) -> Iterator[Hit]:
    """Companies that are named in `[begin, stop)`, as often as they are."""
    for match in _COMPANY.finditer(text, begin, stop):
        start, end = match.span("name")
        start = _begins(text, start, end)
        key = same(text[start:end])
        if not key or _is_no_name(text, start, end):
            continue
        yield Hit(start, _with_dot(text, end), key)


def _begins(text: str, start: int, end: int) -> int:
    """Where a company's name begins that was found at `start`."""
    for above in _TITLE_ABOVE.finditer(text, start, end):
        start = above.end()
    over = list(_ADDRESS_OVER.finditer(text, start, end))
    if not over and (street := _HAS_STREET.search(text, start, end)):
        over = list(_LAST_AND.finditer(text, street.end(), end))
    if over:
        start = over[-1].end()
    said = text[start:end]
    if (shut := _unopened(said)) or (two := _TWO.match(said)):
        start += shut or (two.end() if two else 0)
        while text[start:end][:1] in (",", " ", "\n", "\t", ";"):
            start += 1
        if text[start:end].startswith("and "):
            start += 4
    if front := _FRONT.match(text, start, end):
        start = front.end()
    return start


def _unopened(said: str) -> int:
    """Behind a bracket that is closed and was opened before; 0 where there is none."""
    opened = 0
    for place, sign in enumerate(said):
        opened += (sign == "(") - (sign == ")")
        # `1) Alder` is a number, which is taken off as one.
        if opened < 0:
            return place + 1
    return 0


def _is_no_name(text: str, start: int, end: int) -> bool:
    said = text[start:end]
    before = text[max(0, start - BEFORE_CHARS) : start]
    return bool(
        len(said.split()) < 2
        or _NO_PARTY.match(said)
        or _GENERIC.match(said)
        or _BY_ARTICLE.match(said)
        or _NOT_ITS_OWN.search(before)
        or (_A_KIND.match(said) and before.rstrip()[-1:] == ",")
        or _HOUSE_NEXT.match(text, end)
    )


def _with_dot(text: str, end: int) -> int:
    """The full stop of `Inc.` is the name's."""
    dotted = text[end : end + 1] == "." and _ENDS_DOTTED.search(
        text, max(0, end - DOTTED_CHARS), end
    )
    return end + 1 if dotted else end


# -- names without a form --------------------------------------------------------------

# What somebody is called here, in quotation marks, or in brackets alone: `(ABC)`.
DEFINED = re.compile(
    r"\((?:[^()]{0,60}?[\"“'‘](?P<name>[A-Z][\w’&. -]{1,40}?)[\"”'’][^()]{0,120}?"
    r"|(?P<bare>[A-Z][\w&-]{1,20}))\)"
)
_WORD = (
    r"(?!(?:OF|FOR|AND|THE|BY|WITH|AN?)\b)(?:[A-Z]\.|(?:Dr|Mr|Mrs|Ms|St|Jr|Sr)\."
    r"|[A-ZÀ-ÖØ-Þ][\w’'&-]{0,30})"
)
_UNFORMED = re.compile(
    r"[\s,:]{0,12}(?:\(?(?:\d{1,2}|[ivx]{1,4}|[A-Za-z])[.)]\s{1,4})?"
    r"(?:(?:the|THE)\s{1,3})?"
    rf"(?P<name>{_WORD}(?:[ \t\n]{{1,4}}(?:"
    r"(?:(?:of|for|de|von|van|and|&|OF|FOR|AND|the)[ \t\n]{1,4}){1,2}(?![A-Z]\.))?"
    rf"{_WORD}){{1,7}}+)"
    r"(?=[ \t\n]{0,4}(?:[,(\[\"“]|\Z|(?i:of)[ \t\n]{1,4}[\dA-Z]"
    r"|(?i:an?|located|whose|residing|having|with|and|acting|doing|as)\b))"
)
_OPENS = re.compile(r"(?i)\b(?:and|between|among|by)\b|[;:]|\n[ \t]{0,60}\n")
_NOT_CALLED = re.compile(
    rf"(?i)\b(?:{_STREET}|agreement|contract|exhibit|schedule|annex|appendix|section"
    r"|article|date|january|february|march|april|june|july|august|september|october"
    r"|november|december|parties|party|products?|services?[ \t]agreement|act|code"
    r"|united[ \t]states|territory|form|plan|commission)\b"
    rf"|\A(?:{_STATE})\b|,\Z"
)


def unformed(text: str, begin: int, end: int) -> Hit | None:
    """
    The name that is defined at `end`, of a person or of who has no form in law.

    It stands where a list of parties has its next: after `between`, after `and`, at the
    beginning of a paragraph.
    """
    begin = max(begin, end - SLOT_CHARS)
    opens = [begin, *(match.end() for match in _OPENS.finditer(text, begin, end))]
    for place in reversed(opens):
        match = _UNFORMED.match(text, place, end)
        if match is None or _NOT_CALLED.search(match["name"]):
            continue
        if _GENERIC.match(match["name"]) or role(match["name"]):
            continue
        return Hit(*match.span("name"), same(match["name"]))
    return None


def called_by(short: str, name: str) -> bool:
    """Whether a short name is a name's first word, or its initials."""
    words = same(name).split()
    initials = "".join(word[0] for word in words)
    return same(short) in (words[0], initials)


def no_party(alias: str) -> bool:
    """Whether what is defined so is a thing of the contract, and nobody."""
    return _NO_PARTY.match(alias) is not None


# What somebody does in a contract, in as many words as people write.
_ROLE = re.compile(
    r"(?i)^(?:the |this )?(?:(?:service|solution|content|technology|web"
    r"|independent|general|sub|prime|sole|exclusive|sales|placement|escrow|lead|managing"
    r"|joint)[ -]?)?"
    r"(?:(?:adviser|advisor|affiliate|agency|agent|artist|assignee|assignor|author|bank"
    r"|borrower|broker|buyer|carrier|client|company|consignee|consignor|consultant"
    r"|contractor|corporation|co-?trustee|counterparty|creditor|customer|dealer|debtor"
    r"|depositor|designer|developer|distributor|employee|employer|endorser|executive"
    r"|firm|franchisee|franchisor|grantee|grantor|guarantor|holder|host|hotel|indemnitee"
    r"|indemnitor|insured|insurer|investor|issuer|joint venturer|keeper|landlord|lender"
    r"|lessee|lessor|licensee|licensor|manager|manufacturer|member|merchant|operator"
    r"|owner|participant|partner|payee|payor|performer|principal|producer|promoter"
    r"|provider|publisher|purchaser|racing team|recipient|renter|repairer"
    r"|representative|reseller|retailer|sales agent|seller|servicer|shareholder"
    r"|shipper|sponsor|spinco|subscriber|subsidiary|supplier|talent|team|tenant|trustee"
    r"|underwriter|user|vendor"
    r"|venture|venturer|warehouse|worker|you|us|we)s?)$"
)


def role(alias: str) -> bool:
    """Whether it says what somebody does in a contract, and not who that is."""
    return _ROLE.match(alias.strip()) is not None
