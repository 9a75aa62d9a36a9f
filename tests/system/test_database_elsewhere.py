"""
PostgreSQL as people run it: elsewhere, behind PgBouncer, full, failed over, misnamed.

What docs/operations.md says is run as it stands there: its SQL by psql, its lines in
a shell, its PgBouncer file by PgBouncer.  Only hosts, ports and paths are put in.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import pytest

from pipeline.store.connection import SETTINGS
from pipeline.store.database import CONNECTIONS
from tests.system.command import Home, children_of, eventually, with_pid
from tests.system.servers import PgBouncer, Postgres, ask, documented, free_port, shell
from waybill.commands.service import UP_CONNECTIONS

ROLES, FIRST = documented("Roles, database, schema")
[RUN] = documented("Connections")
INI, USERS, POOLED = documented("PgBouncer")
SEVERAL, SYNCHRONOUS, PROMOTE, AGAIN = documented("A standby")

APP, OWNER = "APP-PASSWORD", "OWNER-PASSWORD"
SIZE = 20  # of `max_connections`, as in the page
STAGES = {
    # Three stages, one with a step: each leaves a line for each time it ran.
    "first": "await anyio.sleep(0.02)\nreturn Advance()",
    "second": "await ctx.step('half', anyio.sleep, 0.01)\nreturn Advance()",
    "third": "return Advance()",
}
TOLD = "select name, current_setting(name) as it from unnest($1::text[]) as t(name)"


class Elsewhere:
    """A server as the page makes it, and homes whose service uses it."""

    def __init__(self, **settings: str | int) -> None:
        self.server = Postgres().make(max_connections=SIZE, **settings)
        self._homes: list[Home] = []
        self.server.says(ROLES.text)

    def url(self, role: str, password: str, address: str = "") -> str:
        """The database's URL, as the page writes it."""
        return (
            f"postgresql://{role}:{password}@{address or self.server.address}/waybill"
        )

    def home(self, service_url: str) -> Home:
        """A home over `service_url`; weighed straight, as the owner."""
        folder = Path(mkdtemp(prefix="waybill-home-"))
        home = Home(folder, self.url("waybill_owner", OWNER), service_url)
        del home.environment["WAYBILL_OWNER_URL"]
        home.pipeline("three", **STAGES)
        home.environment["WAYBILL_PIPELINES"] = str(home.pipelines)
        home.environment["WAYBILL_SETTLE_S"] = "0.3"
        self._homes.append(home)
        return home

    def remove(self) -> None:
        """End and delete everything."""
        for home in self._homes:
            home.remove()
        self.server.remove()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """One server, set up by the first lines of the page."""
    made = Elsewhere()
    try:
        lines = FIRST.put({"db.example:5432": made.server.address})
        ran = shell(lines, made.home("").environment)
        assert ran.returncode == 0, ran
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def pooler(elsewhere: Elsewhere) -> Iterator[PgBouncer]:
    """PgBouncer before that server, by the page's own file."""
    made = PgBouncer()
    there = made.folder / "userlist.txt"
    ini = INI.put(
        {
            "host=db.example port=5432": f"host=127.0.0.1 port={elsewhere.server.port}",
            "listen_addr = pooler.example": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {made.port}",
            "/etc/pgbouncer/userlist.txt": str(there),
        }
    )
    users = elsewhere.server.says(USERS.text)
    assert APP not in users
    try:
        yield made.make(ini, users)
    finally:
        made.remove()


def drop(home: Home, tenant: str, count: int) -> None:
    """Texts for the pipeline `three`, each with other bytes."""
    made, inbox = home.folder / "made" / tenant, home.inbox / tenant / "three"
    made.mkdir(parents=True)
    inbox.mkdir(parents=True)
    for number in range(count):
        (made / f"{number}.txt").write_text(f"{tenant} {number}\n", encoding="utf-8")
    for file in made.iterdir():
        file.rename(inbox / file.name)


def done(home: Home, tenant: str) -> int:
    """How many items of a tenant are done."""
    return home.one(
        "select count(*) from outcomes o join items i on i.id = o.item_id"
        " join tenants t on t.id = i.tenant_id where o.state = 'done' and t.name = $1",
        tenant,
    )


def once(home: Home, tenant: str) -> bool:
    """Whether each item of a tenant left each checkpoint once, and in order."""
    return home.one(
        "select bool_and(n = 4) from (select count(*) as n from checkpoints c"
        " join items i on i.id = c.item_id join tenants t on t.id = i.tenant_id"
        " where t.name = $1 group by c.item_id)",
        tenant,
    )


# -- a server over TCP -----------------------------------------------------------------


def test_a_server_of_ones_own_as_it_is_written(elsewhere: Elsewhere):
    """Two workers, twenty connections: it works, within the numbers of the page, and
    nobody but `db migrate` is handed the owner's URL."""
    home = elsewhere.home(elsewhere.url("waybill_app", APP))
    owner = {"OWNER_URL": elsewhere.url("waybill_owner", OWNER)}
    words = RUN.text.split()
    assert words[0] == "waybill"
    drop(home, "tcp", 40)
    most = 0
    with home.started(*words[1:], **owner) as up:

        def finished() -> bool:
            nonlocal most
            most = max(most, connections(elsewhere))
            return done(home, "tcp") == 40

        assert eventually(finished, within_s=60), home.ok("status")
        started = home.processes()
        assert len(home.sql("select from waybill.workers")) == 2  # spares have none
        assert any("pipeline.jail.template" in told for told in started.values())
        assert [pid for pid, told in started.items() if OWNER in told] == []
        up.terminate()
        assert up.wait(40) == 0

    assert 3 <= most <= UP_CONNECTIONS + 2 * CONNECTIONS == 12
    assert once(home, "tcp")
    assert home.ok("batches", "reconcile")
    assert OWNER not in (home.folder / "stderr.log").read_text(encoding="utf-8")


def connections(elsewhere: Elsewhere) -> int:
    """How many the service's role has now."""
    sql = "select count(*) from pg_stat_activity where usename = 'waybill_app'"
    return int(elsewhere.server.says(sql))


def test_the_page_counts_connections_as_the_code_does():
    """Its table, and the sum below it."""
    page = Path("docs/operations.md").read_text(encoding="utf-8")

    assert f"| `waybill up`, beside its workers | {UP_CONNECTIONS} |" in page
    assert f"| each worker (`--processes`) | {CONNECTIONS} |" in page
    assert f"is {UP_CONNECTIONS + 2 * CONNECTIONS}. A server with" in page
    assert f"`max_connections = {SIZE}`" in page


@pytest.mark.proof
def test_a_server_without_a_free_connection_says_so(elsewhere: Elsewhere):
    """Commands end with 3; a worker waits and charges nobody."""
    home = elsewhere.home(elsewhere.url("waybill_app", APP))
    with home.started("up", "--processes", "2") as up:
        assert eventually(lambda: home.logged("worker_joined") == 2, within_s=20)
        with Full(elsewhere):
            drop(home, "full", 10)
            ran = home.run("status", "--json")
            text = home.run("status").err
            time.sleep(2)  # it has a few connections, and asks for more
            assert up.poll() is None
        assert eventually(lambda: done(home, "full") == 10, within_s=40)
        up.terminate()
        assert up.wait(40) == 0

    assert ran.error() == (3, "DATABASE_UNAVAILABLE")
    assert "no free connection" in text
    assert "max_connections" in text
    assert once(home, "full")
    assert home.one("select count(*) from attempts where charged") == 0


class Full:
    """Somebody takes every connection there is."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        self._url = elsewhere.url("waybill_app", APP)
        self._runner = asyncio.Runner()
        self._held: list[asyncpg.Connection] = []

    def __enter__(self) -> None:
        self._runner.run(self._take())

    def __exit__(self, *_: object) -> None:
        for con in self._held:
            con.terminate()
        self._runner.close()

    async def _take(self) -> None:
        while True:
            try:
                self._held.append(await asyncpg.connect(self._url, timeout=5))
            except asyncpg.TooManyConnectionsError:
                return


# -- PgBouncer -------------------------------------------------------------------------


def test_pgbouncer_as_it_is_written(elsewhere: Elsewhere, pooler: PgBouncer):
    """Through the real one in transaction mode, a worker killed meanwhile: everything
    is done once, by few sessions, and none of them keeps a setting of ours."""
    place = {"pooler.example:6432": pooler.address}
    home = elsewhere.home(elsewhere.url("waybill_app", APP, pooler.address))
    ran = shell(POOLED.put(place), home.environment)
    assert ran.returncode == 0, ran

    drop(home, "pooled", 60)
    most = 0
    with home.started("up", "--processes", "2") as up:
        assert eventually(lambda: done(home, "pooled") > 5, within_s=60)
        workers = [p for p, line in children_of(up.pid).items() if " work" in line]
        with_pid(workers[0], signal.SIGKILL)

        def finished() -> bool:
            nonlocal most
            most = max(most, connections(elsewhere))
            return done(home, "pooled") == 60

        assert eventually(finished, within_s=60), home.ok("status")
        up.terminate()
        assert up.wait(40) == 0

    assert 1 <= most <= 8
    assert once(home, "pooled")
    assert home.ok("batches", "reconcile")
    url = elsewhere.url("waybill_app", APP, pooler.address)
    # The driver leaves `jit` as it found it, which was off: the pool is ours alone.
    names = sorted(SETTINGS.keys() - {"jit"})
    kept = ask(url, TOLD, names)
    fresh = ask(elsewhere.url("waybill_app", APP), TOLD, names)
    assert kept == fresh
    assert ask(url, "select count(*) from pg_prepared_statements") == [(0,)]
    assert "unsupported" not in pooler.log()


def test_a_database_is_migrated_through_pgbouncer(
    elsewhere: Elsewhere, pooler: PgBouncer
):
    """From nothing, by two at once; no lock stays behind in a session."""
    elsewhere.server.says("drop schema waybill cascade", "waybill")
    home = elsewhere.home("")
    owner = {"OWNER_URL": elsewhere.url("waybill_owner", OWNER, pooler.address)}

    ran = home.together(*[["db", "migrate", "--json"]] * 2, **owner)

    assert [r.code for r in ran] == [0, 0], ran
    applied = sorted(name for r in ran for name in r.json()["applied"])
    assert applied[0] == "0001_core.sql"
    assert len(set(applied)) == len(applied)
    assert (
        elsewhere.server.says(
            "select count(*) from pg_locks where granted and locktype = 'advisory'"
        )
        == "0"
    )
    service = elsewhere.home(elsewhere.url("waybill_app", APP, pooler.address))
    assert service.ok("db", "status")["database"] == int(applied[-1][:4])


@pytest.mark.proof
def test_a_pooler_without_its_server_is_waited_for(
    elsewhere: Elsewhere, pooler: PgBouncer
):
    """What it says instead of the server is an outage, and nobody's attempt."""
    home = elsewhere.home(elsewhere.url("waybill_app", APP, pooler.address))
    with home.started("up"):
        drop(home, "outage", 5)
        assert eventually(lambda: done(home, "outage") == 5, within_s=40)
        elsewhere.server.end(signal.SIGINT)
        assert home.run("status", "--json").error() == (3, "DATABASE_UNAVAILABLE")
        elsewhere.server.start(max_connections=SIZE)
        drop(home, "after", 5)
        assert eventually(lambda: done(home, "after") == 5, within_s=60)

    assert home.one("select count(*) from attempts where charged") == 0


# -- what is wrong ---------------------------------------------------------------------

# Signs that end a part of a URL when they are not written as %XX.
SECRETS = (
    "S3cret",
    "5432/S3cret",
    "S3#cret",
    "S3?cret",
    "S3@cret",
    "[S3cret",
    "S3:cret",
)
WRONG = {
    "password": ("postgresql://waybill_app:S3cret@{here}/waybill", 3, "password"),
    "role": ("postgresql://S3cret:S3cret@{here}/waybill", 3, "user"),
    "host": ("postgresql://waybill_app:S3cret@S3cret.invalid/waybill", 3, "host"),
    "port": ("postgresql://waybill_app:S3cret@127.0.0.1:{closed}/waybill", 3, "port"),
    "no port": ("postgresql://waybill_app:S3cret@127.0.0.1:S3/waybill", 2, "no URL"),
    "database": ("postgresql://waybill_app:{app}@{here}/S3cret", 3, "no database"),
    "scheme": ("mysql://waybill_app:S3cret@{here}/waybill", 2, "no URL"),
    "nothing": ("S3cret", 2, "no URL"),
    "tls": ("postgresql://waybill_app:S3cret@{here}/waybill?sslmode=require", 3, "TLS"),
    "sslmode": ("postgresql://waybill_app:S3cret@{here}/waybill?sslmode=S3", 2, "URL"),
    "parameter": ("postgresql://waybill_app:{app}@{here}/waybill?S3=cret", 3, "param"),
    "grants": ("postgresql://stranger:{app}@{here}/waybill", 3, "db migrate"),
    "no Waybill": ("postgresql://waybill_app:{app}@{here}/postgres", 3, "no Waybill"),
    "standby": (
        "postgresql://waybill_app:{app}@{here}/waybill?target_session_attrs=standby",
        3,
        "hosts",
    ),
}


@pytest.fixture(scope="module")
def visitor(elsewhere: Elsewhere) -> Home:
    """A home whose database is given with each command."""
    elsewhere.server.says(f"create role stranger login password '{APP}'")
    return elsewhere.home("")


def look_at(home: Home, **urls: str) -> dict[str, tuple[int, str]]:
    """What commands of each kind say of these URLs: exit code, and all they wrote."""
    commands = {
        "status": ["status"],
        "up": ["up"],
        "migrate": ["db", "migrate"],
    }
    ran = home.together(*commands.values(), **urls)
    return {
        name: (each.code, " ".join((each.out + each.err).split()))
        for name, each in zip(commands, ran, strict=True)
    }


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_url_is_one_sentence(
    elsewhere: Elsewhere, visitor: Home, wrong: str
):
    """An exit code, what to look at, and nothing that stood in the URL."""
    url, code, word = WRONG[wrong]
    url = url.format(here=elsewhere.server.address, closed=free_port(), app=APP)

    said = look_at(visitor, DATABASE_URL=url)

    for name, (ended, text) in said.items():
        assert "Traceback" not in text, (name, text)
        for piece in ("S3", "cret", APP):
            assert piece not in text, (name, text)
        if name == "migrate" and wrong in ("grants", "no Waybill"):
            assert ended == 3, text  # a role that may not make a schema
        else:
            assert ended == code, (name, text)
            assert word in text, (name, text)
    assert "WAYBILL_DATABASE_URL" in said["status"][1]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_piece_of_a_password_is_told(
    elsewhere: Elsewhere, visitor: Home, secret: str
):
    """Not written as %XX it is taken for a host, a port or a path: none is quoted."""
    here = elsewhere.server.address
    urls = {
        "DATABASE_URL": f"postgresql://waybill_app:{secret}@{here}/waybill",
        "OWNER_URL": f"postgresql://waybill_owner:{secret}@{here}/waybill",
    }

    said = look_at(visitor, **urls)

    for name, (code, text) in said.items():
        assert code in (2, 3), (name, text)
        assert "Traceback" not in text, (name, text)
        assert "S3" not in text, (name, text)
        assert "cret" not in text, (name, text)
    assert "WAYBILL_OWNER_URL" in said["migrate"][1]
    log = visitor.folder / "logs" / "waybill.log"
    assert "cret" not in log.read_text(encoding="utf-8")


def test_the_doctor_says_it_too(elsewhere: Elsewhere, visitor: Home):
    """Among its other checks: what is wrong, what to do, and no piece of a password."""
    url = f"postgresql://waybill_app:S3cret@{elsewhere.server.address}/waybill"

    ran = visitor.run("doctor", "--json", DATABASE_URL=url)

    [found] = [c for c in ran.json()["checks"] if c["name"] == "database"]
    assert (ran.code, found["ok"]) == (3, False)
    assert "password" in found["found"]
    assert "WAYBILL_DATABASE_URL" in found["hint"]
    assert "S3" not in ran.out + ran.err


def test_any_other_order_says_what_to_do():
    """The schema before the role, the service before the schema, and the roads back."""
    elsewhere = Elsewhere()
    try:
        elsewhere.server.says("alter role waybill_app rename to later")
        home = elsewhere.home(elsewhere.url("waybill_app", APP))
        owner = {"OWNER_URL": elsewhere.url("waybill_owner", OWNER)}
        alone = {**owner, "DATABASE_URL": ""}

        early = home.run("db", "migrate", **owner)
        assert early.code == 3  # for a script: the service cannot connect yet
        assert "`create role waybill_app" in " ".join(early.err.split())
        assert home.run("status").code == 3

        elsewhere.server.says(f"create role waybill_app login password '{APP}'")
        refused = home.run("status")
        assert refused.code == 3
        assert "`waybill db migrate`" in " ".join(refused.err.split())
        assert home.ok("db", "migrate", **alone) == {"applied": [], "granted": True}
        assert home.ok("status")

        elsewhere.server.says("drop schema waybill cascade", "waybill")
        empty = home.run("status")
        assert (empty.code, "no Waybill" in empty.err) == (3, True)
        assert "`waybill db migrate`" in " ".join(empty.err.split())
        assert home.run("db", "migrate").code == 3  # as the service's role
        assert home.ok("db", "migrate", **owner)["granted"]
        assert home.ok("status")

        # The owner's URL alone is no service's, and nothing is started instead.
        lone = home.run("status", **alone)
        assert (lone.code, "WAYBILL_DATABASE_URL" in lone.err) == (2, True)
        assert not (home.folder / "postgres").exists()
    finally:
        elsewhere.remove()


# -- a standby -------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Elsewhere, Postgres, Home]]:
    """A server, a standby that follows it, and a home that is told of both."""
    first = Elsewhere()
    try:
        second = first.server.standby(max_connections=SIZE)
    except BaseException:
        first.remove()
        raise
    place = {
        "db1.example:5432": first.server.address,
        "db2.example:5432": second.address,
    }
    try:
        home = first.home("")
        owner = {"OWNER_URL": first.url("waybill_owner", OWNER)}
        home.ok("db", "migrate", **owner)
        lines = SEVERAL.put(place) + 'printf "%s" "$WAYBILL_DATABASE_URL" >url\n'
        ran = shell(f"cd {home.folder}\n{lines}", home.environment)
        assert ran.returncode == 0, ran
        url = (home.folder / "url").read_text(encoding="utf-8")
        home.environment["WAYBILL_DATABASE_URL"] = url
        yield first, second, home
    finally:
        first.remove()
        second.remove()


def fail_over(first: Elsewhere, second: Postgres, home: Home) -> None:
    """The first server is gone; the second is promoted, as the page says."""
    first.server.end(signal.SIGQUIT)
    assert second.says(PROMOTE.text) == "t"
    judge = first.url("waybill_owner", OWNER, second.address)
    home.judged_at(judge)


@pytest.mark.proof
def test_a_promoted_standby_that_was_waited_for_lost_nothing(
    pair: tuple[Elsewhere, Postgres, Home],
):
    """In the middle of the work: nothing is lost, run again or charged."""
    first, second, home = pair
    first.server.says(SYNCHRONOUS.text)
    drop(home, "both", 60)
    with home.started("up", "--processes", "2") as up:
        assert eventually(lambda: done(home, "both") > 5, within_s=60)
        fail_over(first, second, home)
        assert eventually(lambda: done(home, "both") == 60, within_s=60)
        up.terminate()
        assert up.wait(40) == 0

    assert once(home, "both")
    assert home.ok("batches", "reconcile")
    assert home.one("select count(*) from attempts where charged") == 0


@pytest.mark.proof
def test_what_a_late_standby_forgot_is_offered_again(
    pair: tuple[Elsewhere, Postgres, Home],
):
    """Files of its last moment are in the archive alone; offered again, each is done
    once, and what it knows is a duplicate."""
    first, second, home = pair
    with home.started("up") as up:
        drop(home, "known", 5)
        assert eventually(lambda: done(home, "known") == 5, within_s=60)
        assert eventually(lambda: caught_up(first, second), within_s=20)
        second.says("alter system set primary_conninfo = '';select pg_reload_conf()")
        assert eventually(
            lambda: (
                first.server.says("select count(*) from pg_stat_replication") == "0"
            ),
            within_s=20,
        )
        drop(home, "forgotten", 5)
        assert eventually(lambda: done(home, "forgotten") == 5, within_s=60)
        fail_over(first, second, home)
        assert done(home, "forgotten") == 0
        assert eventually(lambda: home.run("status").code == 0, within_s=60)

        ran = shell(AGAIN.text, home.environment)
        assert ran.returncode == 0, ran

        assert eventually(lambda: done(home, "forgotten") == 5, within_s=60)
        up.terminate()
        assert up.wait(40) == 0
    assert done(home, "known") == 5
    assert once(home, "known")
    assert once(home, "forgotten")
    assert home.ok("batches", "reconcile")


def caught_up(first: Elsewhere, second: Postgres) -> bool:
    """Whether the standby has replayed what its server has written."""
    at = first.server.says("select pg_current_wal_lsn()")
    return second.says(f"select pg_last_wal_replay_lsn() >= '{at}'") == "t"
