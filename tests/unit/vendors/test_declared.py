"""`vendors.toml`: what may be said there, and what is refused with its key."""

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.calls import CallClass, Money, ServiceBudget, Usage
from pipeline.errors import Usage as UsageError
from pipeline.vendors.declared import (
    Declared,
    Price,
    Rate,
    VendorLimits,
    VendorSpec,
    VendorTerms,
    rate_of,
    read_vendors,
    text_of,
)

LLM = '[vendor.llm]\nkind = "openai"\nurl = "http://127.0.0.1:1/v1"\n'


def declared(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vendors.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_that_may_be_said(tmp_path: Path) -> None:
    path = declared(
        tmp_path,
        LLM
        + 'key = "secret:llm"\nfallbacks = ["spare"]\n'
        + 'errors = {"403:LIMIT" = "quota"}\n'
        + '[vendor.llm.limits]\nrequests = "600/min"\ntokens = "200_000/2min"\n'
        + "concurrency = 50\n"
        + '[vendor.spare]\nkind = "openai"\nurl = "http://127.0.0.1:2/v1"\n',
    )
    found = read_vendors(path).vendors
    assert list(found) == ["llm", "spare"]
    assert found["llm"].name == "llm"
    assert found["llm"].limits.requests == Rate(600, 60)
    assert found["llm"].limits.tokens == Rate(200_000, 120)
    assert found["llm"].errors == {"403:LIMIT": CallClass.QUOTA}


def test_an_unknown_key_is_told_those_that_are_known_there(tmp_path: Path) -> None:
    """Of the table that it stands in, and of no other; nothing of a broken file."""
    hints = []
    for text in (LLM + "[vendor.llm.limits]\nrate = 3\n", "[vendor"):
        with pytest.raises(UsageError) as refused:
            read_vendors(declared(tmp_path, text))
        hints.append(refused.value.hint)
    limits = "known keys: requests, tokens, concurrency"
    assert hints == [limits, "docs/vendors.md has every key"]


@pytest.mark.parametrize(
    "text", ["600/min", "100/s", "5000/d", "3/90s", "0.5/2h", "1234567/s"]
)
def test_a_rate_is_shown_as_it_is_written(text: str) -> None:
    assert text_of(rate_of(text)) == text


def test_a_vendor_is_handed_to_another_process_as_it_is() -> None:
    limits = VendorLimits(requests=Rate(1234567.5, 60), tokens=Rate(9, 86400))
    spec = VendorSpec(url="https://crm.test", limits=limits, price=Price(call="0.1"))

    assert VendorSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_no_file_declares_nobody(tmp_path: Path) -> None:
    assert read_vendors(tmp_path / "vendors.toml") == Declared({}, ServiceBudget())


def test_what_tenants_and_days_may_cost(tmp_path: Path) -> None:
    """A vendor that costs nothing has no currency."""
    free = LLM + '[vendor.llm.price]\ncurrency = "EUR"\n'
    path = declared(
        tmp_path, free + '[budget]\ntenant = "50.00 USD"\nday = "1_000 USD"\n'
    )
    found = read_vendors(path)
    assert list(found.vendors) == ["llm"]
    assert found.budget == ServiceBudget(
        tenant=Money(Decimal("50.00"), "USD"), day=Money(Decimal(1000), "USD")
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LLM + 'key = "sk-live-123"\n', "vendor.llm.key: a key is named, never"),
        (LLM + 'fallbacks = ["nobody"]\n', "no vendor 'nobody'"),
        (LLM + 'fallbacks = ["llm"]\n', "llm cannot stand in for itself"),
        (LLM + '[vendor.x]\nurl = "u"\nfallbacks = ["llm"]\n', "another kind"),
        (LLM + '[vendor.llm.limits]\nrequests = "often"\n', "600/min"),
        (LLM + '[vendor.llm.limits]\nconcurrency = 0\n', "concurrency"),
        (LLM + f"[vendor.llm.limits]\nconcurrency = {10**20}\n", "concurrency"),
        *((LLM + f"[vendor.llm.limits]\n{word} = {rate}\n", f"limits.{word}: ")
          for word in ("requests", "tokens")
          for rate in ('"0/s"', '"1/0s"', '"1/.s"', '"1._/s"', "[5, 1]", "[1, nan]",
                       f'"{"9" * 400}/s"', '"1/9999999d"', "5", "nan")),
        *((LLM + f"{said}\n", f"{said.split()[-3]} is neither true nor false")
          for said in ("[vendor.llm.limits]\nconcurrency = true", "timeout_s = true",
                       "[vendor.llm.limits]\nrequests = false")),
        *((LLM + f"[vendor.llm.price]\ncall = {cost}\n", "vendor.llm.price.call: ")
          for cost in ('"1e999999"', '"1e30"', "inf", "nan", "-1", '"many"')),
        (LLM + "[vendor.llm.breaker]\nopen_s = inf\n", "breaker.open_s: "),
        (LLM + "[vendor.llm.breaker]\nmax_s = nan\n", "breaker.max_s: "),
        (LLM + 'errors = {"\N{ARABIC-INDIC DIGIT FOUR}03" = "quota"}\n', "llm.errors"),
        *((LLM + f"headers = {{x = {value}}}\n", "vendor.llm.headers.x: ")
          for value in (r'"a\r\nhost: b"', '"\N{EURO SIGN}"',
                        '" a"', '"a "', r'"a\u0000"')),
        (LLM + 'headers = {"a b" = "c"}\n', "vendor.llm.headers."),
        (LLM + 'key_header = "content-length"\n', "content-length is the door's"),
        (LLM + 'key_header = "Host"\n', "Host is the door's"),
        (LLM + 'idempotency_header = "te"\n', "te is the door's"),
        (LLM + "colour = 3\n", "vendor.llm.colour: there is no such key"),
        (LLM + "retry_shares = 3\n", "no such key; is retry_share meant?"),
        ("[vendor.x]\n", "vendor.x.url: it is missing"),
        (LLM + 'errors = {"often" = "quota"}\n', "vendor.llm.errors"),
        (LLM + 'errors = {"٤٢٩" = "quota"}\n', "vendor.llm.errors"),
        (LLM + 'errors = {"403" = "sad"}\n', "vendor.llm.errors"),
        (LLM + 'headers = {Authorization = "Bearer x"}\n', "Authorization is"),
        ('[vendor.x]\nurl = "ftp://h"\n', "vendor.x.url: a vendor's url must"),
        ('[vendor.x]\nurl = "https://u:sk-live@h"\n', "and no credentials"),
        ('[vendor.x]\nurl = "https://h?key=sk-live"\n', "and no credentials"),
        ('[vendor."A b"]\nurl = "u"\n', "is no name"),
        ("[vendor", "cannot be read"),
        ('[budget]\ntenant = "5"\n', "budget.tenant"),
        ('[budget]\ntenant = "5 USD"\nday = "9 EUR"\n', "one currency"),
        (
            LLM + '[vendor.llm.price]\ncurrency = "EUR"\ncall = "1"\n'
            + '[budget]\nday = "9 USD"\n',
            "price is in EUR, and [budget] in USD",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_vendors(declared(tmp_path, text))
    assert refused.value.code == "VENDORS_FILE"
    assert says in str(refused.value)
    assert "sk-live" not in str(refused.value)


def test_a_price_counts_each_token_once() -> None:
    price = Price(
        call=Decimal("0.001"),
        input=Decimal(2),
        cached_input=Decimal("0.2"),
        output=Decimal(8),
    )
    usage = Usage(
        input_tokens=500_000,
        cached_input_tokens=500_000,
        output_tokens=100_000,
        reasoning_tokens=150_000,
    )
    assert price.of(usage) == Decimal("0.001") + 1 + Decimal("0.1") + 2
    assert price.most(1_000_000, 250_000) >= price.of(usage)


def test_a_pipeline_may_tighten() -> None:
    """Its time and its bytes stand in what it calls; its limits are held beside."""
    llm = VendorSpec(name="llm", url="https://h", timeout_s=60)
    terms = VendorTerms(
        timeout_s=10, limits=VendorLimits(requests=Rate(5, 1), concurrency=2)
    )

    assert llm.within(terms) == llm.model_copy(update={"timeout_s": 10})


@pytest.mark.parametrize(
    ("terms", "key"),
    [
        ({"timeout_s": 61}, "timeout_s"),
        ({"answer_bytes_max": 1 << 30}, "answer_bytes_max"),
        ({"limits": {"requests": "601/min"}}, "limits.requests"),
        ({"limits": {"requests": "11/s"}}, "limits.requests"),
        ({"limits": {"tokens": "2/s"}}, "limits.tokens"),
        ({"limits": {"concurrency": 9}}, "limits.concurrency"),
    ],
)
def test_a_pipeline_may_loosen_nothing(terms: dict[str, object], key: str) -> None:
    limits = VendorLimits(requests=Rate(600, 60), tokens=Rate(60, 60), concurrency=8)
    llm = VendorSpec(name="llm", url="https://h", timeout_s=60, limits=limits)

    with pytest.raises(UsageError, match=key) as refused:
        llm.within(VendorTerms.model_validate(terms))

    assert refused.value.code == "VENDOR_LOOSER"
