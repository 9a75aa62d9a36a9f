"""
Homes for the real command: one PostgreSQL server, a database for each.

They do not lie in pytest's own folder.  Run by root, the server is another user,
and every start of pytest takes that user's way into the folder away again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.system.command import FORKS, Cluster, Home

_numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """What runs the commands ends with the tests."""
    yield
    FORKS.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server that all homes but the embedded ones share."""
    made = Cluster(Path(mkdtemp(prefix="waybill-pg-")) / "postgres")
    made.hurry()
    yield made
    made.remove()


def make_home(cluster: Cluster, *, steady: bool) -> Home:
    """A fresh home over a fresh, migrated database of `cluster`; see `Home`."""
    urls = cluster.migrated(f"home{next(_numbers)}")
    folder = Path(mkdtemp(prefix="waybill-home-"))
    return Home(folder, urls.owner_url, urls.app_url, steady=steady)


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Iterator[Home]:
    """A home for the tests of one file."""
    made = make_home(cluster, steady=True)
    yield made
    made.remove()


@pytest.fixture
def home(cluster: Cluster) -> Iterator[Home]:
    """A home for one test."""
    made = make_home(cluster, steady=True)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def embedded_home() -> Iterator[Home]:
    """A home as it is without any setting: PostgreSQL inside it."""
    made = Home(Path(mkdtemp(prefix="waybill-home-")))
    yield made
    made.remove()


@pytest.fixture
def own() -> Iterator[tuple[Cluster, Home]]:
    """A home over a server that nobody else uses, and which may be stopped."""
    cluster = Cluster(Path(mkdtemp(prefix="waybill-pg-")) / "postgres")
    home = make_home(cluster, steady=False)
    yield cluster, home
    home.remove()
    cluster.remove()
