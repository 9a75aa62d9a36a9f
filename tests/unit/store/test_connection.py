"""What is said when there is no connection: a sentence, and nothing of the URL."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import asyncpg
import pytest

from pipeline.errors import StoreUnavailable, Usage
from pipeline.store.connection import BEGIN_POOLED, FAILURES, SETTINGS, Line

URL = "postgresql://S3cret:S3cret@S3cret:1/S3cret"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (asyncpg.InvalidPasswordError("S3cret"), "password"),
        (asyncpg.InvalidAuthorizationSpecificationError("S3cret"), "pg_hba.conf"),
        (asyncpg.InvalidCatalogNameError("S3cret"), "no database"),
        (asyncpg.InsufficientPrivilegeError("S3cret"), "waybill db migrate"),
        (asyncpg.UndefinedTableError("S3cret"), "waybill db migrate"),
        (asyncpg.InvalidSchemaNameError("S3cret"), "waybill db migrate"),
        (asyncpg.TooManyConnectionsError("S3cret"), "max_connections"),
        (asyncpg.CannotConnectNowError("S3cret"), "try again"),
        (asyncpg.ReadOnlySQLTransactionError("S3cret"), "standby"),
        (asyncpg.ReadOnlySQLTransactionError("S3cret"), "default_transaction_read"),
        (asyncpg.ProtocolViolationError("S3cret"), "pooler"),
        (asyncpg.ProtocolViolationError("S3cret"), "behind the `?`"),
        (asyncpg.ConnectionDoesNotExistError("S3cret"), "sslcert"),
        (FileNotFoundError("S3cret"), "sslrootcert"),
        (IsADirectoryError("S3cret"), "sslrootcert"),
        (ssl.SSLCertVerificationError("S3cret"), "sslmode"),
        (ConnectionError("S3cret rejected SSL upgrade"), "sslmode"),
        (ConnectionRefusedError("S3cret"), "host, port"),
        (TimeoutError("S3cret"), "host, port"),
        (socket.gaierror(-2, "S3cret"), "%XX"),
    ],
)
def test_what_is_wrong_is_said_without_their_words(error: Exception, word: str):
    """The server's words may quote a piece of a password that it took for a host."""
    assert isinstance(error, FAILURES)

    said = Line(URL, "WAYBILL_OWNER_URL").unreachable(error)

    text = f"{said.message} {said.hint}"
    assert isinstance(said, StoreUnavailable)
    assert word in text
    assert "S3cret" not in text
    assert "{url}" not in text


@pytest.mark.parametrize("error", [ValueError("S3cret"), OverflowError("S3cret")])
def test_what_is_no_url_is_a_wrong_setting(error: Exception):
    """Named by its variable, with an example."""
    said = Line(URL, "WAYBILL_OWNER_URL").unreachable(error)

    assert isinstance(said, Usage)
    assert "WAYBILL_OWNER_URL" in said.message
    assert "S3cret" not in said.message + said.hint


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_whom_to_trust_is_asked_for(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The URL is one; what it wants of a certificate nobody said."""
    monkeypatch.setenv("HOME", str(tmp_path))
    line = Line(f"postgresql://S3cret:S3cret@S3cret.invalid/S3cret?sslmode={mode}")

    with pytest.raises(FAILURES) as error:
        asyncio.run(line.connect())

    said = line.unreachable(error.value)
    assert isinstance(said, Usage)
    assert "sslrootcert" in said.hint
    assert "S3cret" not in said.message + said.hint


def test_a_line_shows_no_url():
    """It may end in an error message or a log."""
    assert "S3cret" not in repr(Line(URL))


def test_settings_go_with_begin_where_no_session_is_ours():
    """One message, and each of them for this transaction alone."""
    line = Line(URL)
    straight, line.pooled = line.begin, True

    assert straight == "BEGIN"
    first, *more = line.begin.split("; ")
    assert first == BEGIN_POOLED
    assert len(more) == len(SETTINGS)
    assert all(each.startswith("set local ") for each in more)
