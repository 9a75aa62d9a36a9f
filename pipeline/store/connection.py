"""
How a connection is made, and what is said when none can be had.

Nothing is sent at the start but a name: a pooler refuses parameters that it does not
know.  Straight to the server the settings are made once a connection, and statements
stay prepared.  Through a pooler in transaction mode (PgBouncer) every transaction may
meet another session of the server: settings are made in each transaction, on the way
that its BEGIN goes, and no statement outlives it.  Which of the two it is, the
connection tells: a pooler names another process than the one that answers.

What is said never quotes the URL nor the server: a password with a sign that is not
written as %XX may stand in what was taken for its host, port or database.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from pipeline.errors import StoreUnavailable, Usage, WaybillError

ESCAPED = "what is not a-z, A-Z or 0-9 in a password is written as %XX"
CONNECT_S = 5.0

SETTINGS = {
    "statement_timeout": "8000",
    "lock_timeout": "4000",
    "idle_in_transaction_session_timeout": "15000",
    # Every table is named with its schema: nothing that others made is found instead.
    "search_path": "pg_catalog",
    "jit": "off",  # short statements: compiling them costs more
    # The hot tables are in memory.  At the default of 4 a claim of 500 read a
    # backlog of 50,000 from end to end, twice.
    "random_page_cost": "1.1",
}
# A server whose client is gone ends its statement; a pooler stays its client.
STRAIGHT = {
    **SETTINGS,
    "client_connection_check_interval": "2000",
    "idle_session_timeout": "0",  # the pool closes what it does not need
    # Whatever role or database prefer: who waited for a row must see what it became.
    "default_transaction_isolation": "read committed",
}
BEGIN_POOLED = "BEGIN ISOLATION LEVEL READ COMMITTED"
SINCE_17 = {"transaction_timeout": "0"}
POOLED = "WBPOL"  # SQLSTATE of our own

# InternalClientError: a process that was stopped for longer than its timeouts finds
# the driver's own state in disorder when it goes on; the connection is terminated.
AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
# OverflowError: a port above 65535.  A host that is no name, and what the driver says
# of a URL, are ValueErrors; their messages may quote a piece of a password.
NO_URL = (ValueError, OverflowError)
FAILURES = (*AWAY, *NO_URL)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # generic in its stubs alone
Failures: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

# Of a socket's path, and of a certificate's.
_FILES = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
# What the driver or the server may answer: the sentence, and what to do.  `{url}` is
# the variable that named the database.
_REFUSALS: tuple[tuple[Failures, str, str], ...] = (
    (
        asyncpg.TooManyConnectionsError,
        "PostgreSQL has no free connection",
        "raise max_connections, run fewer workers, or put PgBouncer in between; "
        "docs/operations.md says how many each process needs",
    ),
    (
        asyncpg.InvalidPasswordError,
        "the database refuses this user or its password",
        "look at both in {url}; what is not a-z, A-Z or 0-9 is written as %XX",
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the database does not let this user in from here",
        "is there such a role, may it log in, and does pg_hba.conf let it in from "
        "this machine, with or without TLS as sslmode in {url} says?",
    ),
    (
        asyncpg.InvalidCatalogNameError,
        "the server has no database of this name",
        "create it, or name another one in {url}",
    ),
    (
        (asyncpg.InsufficientPrivilegeError,),
        "the role of {url} may not do this in the database",
        "run `waybill db migrate` as the database's owner (WAYBILL_OWNER_URL): it "
        "grants the role waybill_app what it needs; the service connects as that role. "
        "Where nobody may: `grant connect on database … to waybill_app` as well",
    ),
    (
        (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError),
        "this database holds no Waybill, or an older one",
        "run `waybill db migrate` as its owner (WAYBILL_OWNER_URL), or name another "
        "database in {url}",
    ),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "this server only reads: it is a standby, or the one before a failover",
        "let {url} name the server that writes; docs/operations.md says how to name "
        "several.  If it is that one: default_transaction_read_only is set there",
    ),
    (
        asyncpg.CannotConnectNowError,
        "PostgreSQL is starting, stopping or recovering",
        "wait a moment and try again",
    ),
    (
        (ssl.SSLError, ssl.CertificateError),
        "no TLS could be agreed upon with the server",
        "look at sslmode and sslrootcert in {url}; does the server have TLS turned on, "
        "and which certificate?",
    ),
    (
        asyncpg.UndefinedObjectError,
        "the server does not know a parameter of the URL",
        "look at what stands behind the `?` in {url}",
    ),
    (
        asyncpg.TargetServerAttributeNotMatched,
        "none of the servers is one that writes",
        "promote a standby, or look at the hosts in {url}",
    ),
    (
        asyncpg.ProtocolViolationError,
        "the pooler, or the server, refuses the connection",
        "are user, password, database and what stands behind the `?` in {url} such as "
        "the pooler knows, and does it reach its server? Its log says why",
    ),
)


class Line:
    """
    The way to one database, as pools and migrations connect to it.

    Args:
        url: May carry a password; it is never shown.
        variable: The setting that the URL comes from, for what is said to people.

    Attributes:
        pooled: Whether a pooler stands in between, as the last connection told.
    """

    def __init__(self, url: str, variable: str = "WAYBILL_DATABASE_URL") -> None:
        self._url = url
        self.variable = variable
        self.pooled = False
        self._newer: dict[str, str] = {}  # settings that older servers do not know

    def __repr__(self) -> str:
        return f"<Line of {self.variable}>"

    @property
    def begin(self) -> str:
        """How a transaction begins: one message, whatever it carries."""
        if not self.pooled:
            return "BEGIN"
        wanted = _settings(SETTINGS | self._newer)
        return "; ".join([BEGIN_POOLED, *(f"set local {s}" for s in wanted)])

    async def connect(self, *_: Any, **options: Any) -> Connection:
        """
        A new connection, ready for `begin`; called by a pool with its `options`.

        Raises what the driver raises; `said` turns that into a sentence.
        """
        options |= {
            "timeout": CONNECT_S,
            "server_settings": {"application_name": "waybill"},
        }
        if self.pooled:
            options["statement_cache_size"] = 0
        con: Connection = await asyncpg.connect(self._url, **options)
        self._newer = SINCE_17 if con.get_server_version() >= (17,) else {}
        if not self.pooled:
            wanted = STRAIGHT | self._newer
            try:
                await con.execute(_unless_pooled(con.get_server_pid(), wanted))
            except BaseException as error:
                con.terminate()
                if getattr(error, "sqlstate", "") != POOLED:
                    raise
                self.pooled = True
                return await self.connect(**options)
        return con

    def unreachable(self, error: BaseException) -> WaybillError:
        """
        What kept `connect` from a connection: one of `FAILURES`.

        Returns:
            Usage: the URL is none.
            StoreUnavailable: everything else.
        """
        if isinstance(error, NO_URL) and not isinstance(error, ssl.SSLError):
            if "root certificate" in str(error):
                return Usage(
                    f"sslmode in {self.variable} wants to know whose certificates to "
                    "trust",
                    hint="name the file of the authority's: `&sslrootcert=/….crt`",
                )
            return Usage(
                f"{self.variable} is no URL of a PostgreSQL",
                hint="postgresql://USER:PASSWORD@HOST:PORT/DATABASE; " + ESCAPED,
            )
        if isinstance(error, asyncpg.ConnectionDoesNotExistError):
            return StoreUnavailable(
                "the server closed the connection at once",
                hint="its log says why; does it want a certificate of yours (sslcert "
                f"and sslkey in {self.variable})?",
            )
        return self.said(error, otherwise="the database cannot be reached")

    def said(
        self, error: BaseException, *, otherwise: str, in_doubt: bool = False
    ) -> StoreUnavailable:
        """
        What a driver's or a server's error means, without a word of theirs.

        Args:
            otherwise: The sentence for what has none of its own; the error's type
                is added.
        """
        message = f"{otherwise} ({type(error).__name__})"
        hint = ""
        if isinstance(error, (OSError, TimeoutError)):
            hint = "is PostgreSQL up, and {url} right (host, port)?"
        if isinstance(error, _FILES):
            hint = (
                "is PostgreSQL up, and {url} right (host, port), with each file that "
                "it names (sslrootcert, sslcert, sslkey)?"
            )
        if isinstance(error, socket.gaierror):
            hint = "is the host in {url} right?  " + ESCAPED
        if isinstance(error, ConnectionError) and "SSL" in str(error):
            error = ssl.SSLError()
        for kinds, sentence, what_to_do in _REFUSALS:
            if isinstance(error, kinds):
                message, hint = sentence, what_to_do
                break
        return StoreUnavailable(
            message.format(url=self.variable),
            hint=hint.format(url=self.variable),
            in_doubt=in_doubt,
        )


def _settings(wanted: dict[str, str]) -> list[str]:
    return [f"{name} = '{value}'" for name, value in wanted.items()]


def _unless_pooled(pid: int, wanted: dict[str, str]) -> str:
    """
    Makes these settings, or raises `POOLED`: one message, so all of it or nothing.

    `pid` is the process that we were told we talk to.
    """
    check = (
        f"do $$ begin if pg_backend_pid() <> {pid} then"
        " raise exception 'Waybill found a pooler, and goes on with it'"
        f" using errcode = '{POOLED}'; end if; end $$"
    )
    return "; ".join([check, *(f"set {s}" for s in _settings(wanted))])
