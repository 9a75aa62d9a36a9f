"""Homes for the real command: one PostgreSQL server, a database for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.system.command import FORKS, Cluster, Home

_numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """What runs the commands ends with the tests."""
    yield
    FORKS.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that all homes but the embedded ones share."""
    made = Cluster(tmp_path_factory.mktemp("pg"))
    yield made
    made.remove()


def folder(factory: pytest.TempPathFactory, number: int) -> Path:
    """A folder whose name is no part of another's: processes are told by it."""
    return factory.mktemp(f"home-{number:03}-", numbered=False)


def make_home(cluster: Cluster, factory: pytest.TempPathFactory) -> Home:
    """A fresh home over a fresh, migrated database of `cluster`."""
    number = next(_numbers)
    urls = cluster.database(f"home{number}")
    home = Home(folder(factory, number), urls.owner_url, urls.app_url)
    home.ok("db", "migrate")
    return home


@pytest.fixture(scope="module")
def shared(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A home for the tests of one file."""
    made = make_home(cluster, tmp_path_factory)
    yield made
    made.close()


@pytest.fixture
def home(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home for one test."""
    made = make_home(cluster, tmp_path_factory)
    yield made
    made.close()


@pytest.fixture(scope="module")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home as it is without any setting: PostgreSQL inside it."""
    made = Home(folder(tmp_path_factory, next(_numbers)))
    yield made
    made.close()
