"""A real Tryton for the tests of this folder: with a company of two years, with or without our module."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import CommandLine
from tryton_company import Life, date_back, enter, found_company, invent_lives, utc_now
from tryton_here import PASSWORD, Tryton, installation


@dataclass(frozen=True)
class Company:
    """A Tryton database that a company has worked with, the opportunities in it, and what they refer to."""

    database: Path
    lives: list[Life]
    there: dict[str, list[int]]


@pytest.fixture(scope="session")
def tryton() -> Path:
    """Where Tryton is installed; skips where it cannot be."""
    return installation()


def company_of(tryton: Path, folder: Path, template: str, count: int) -> Company:
    crm = Tryton(tryton, folder, template)
    with crm.running():
        there = found_company(crm)
        lives = invent_lives(there, count, now=utc_now(), seed=7)
        enter(crm, lives)
    date_back(crm, lives)
    return Company(crm.database, lives, there)


@pytest.fixture(scope="session")
def small_company(tryton: Path, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """80 opportunities in a Tryton as it comes."""
    return company_of(tryton, tmp_path_factory.mktemp("small"), "stock", 80)


@pytest.fixture
def run_tryton(tryton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Company], Tryton]:
    """A Tryton of the test's own on a copy of a company's database, to be started with `running()`."""
    monkeypatch.setenv("DEALCAST_TRYTON_PASSWORD", PASSWORD)

    def copied(company: Company) -> Tryton:
        folder = tmp_path / "tryton"
        folder.mkdir()
        crm = Tryton(tryton, folder, "stock")
        shutil.copy(company.database, crm.database)  # stock or not: our module is in the database
        return crm

    return copied


@pytest.fixture
def small_crm(small_company: Company, run_tryton: Callable[[Company], Tryton]) -> Iterator[Tryton]:
    """The small company's Tryton, running."""
    with run_tryton(small_company).running() as crm:
        yield crm


@pytest.fixture(scope="session")
def scored_company(tryton: Path, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """300 opportunities in a Tryton with our module."""
    return company_of(tryton, tmp_path_factory.mktemp("scored"), "scored", 300)


@pytest.fixture
def scored_crm(scored_company: Company, run_tryton: Callable[[Company], Tryton]) -> Iterator[Tryton]:
    """The larger company's Tryton, with our module, running."""
    with run_tryton(scored_company).running() as crm:
        yield crm


@pytest.fixture
def dealcast(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "workspace")


@pytest.fixture(scope="session")
def scored_small_company(tryton: Path, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """60 opportunities in a Tryton with our module."""
    return company_of(tryton, tmp_path_factory.mktemp("scored_small"), "scored", 60)


@pytest.fixture
def scored_small_crm(scored_small_company: Company, run_tryton: Callable[[Company], Tryton]) -> Iterator[Tryton]:
    """The smaller company's Tryton, with our module, running."""
    with run_tryton(scored_small_company).running() as crm:
        yield crm
