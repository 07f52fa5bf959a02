"""A small synthetic company, imported and trained once for all tests of the command line."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from command_line_here import EARLIER, done
from made_once import made_once

from crm.export import write_export
from crm.synthetic import CompanyConfig, export, simulate

COMPANY = CompanyConfig(seed=5, days=520, n_reps=6, n_teams=2, n_regions=2, deals_per_week=12.0)


def make_company(place: Path) -> None:
    """Two exports, a workspace with the first, one that is trained as well, and what the commands said."""
    state = simulate(COMPANY)
    reached = state.company.calendar.midnight(state.on)
    write_export(export(state, reached - pd.Timedelta(days=8)), place / "first")
    write_export(export(state, reached), place / "second")
    said = [done(place / "imported", "import", place / "first")]
    workspace = shutil.copytree(place / "imported", place / "trained")
    said += [done(workspace, "train"), done(workspace, "train", "--as-of", EARLIER)]
    (place / "said.json").write_text(json.dumps(said), "utf-8")


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> tuple[Path, list[dict]]:
    """The company's folders, this process's own copy, and what the commands said that made them."""
    made = made_once(tmp_path_factory, "on_the_command_line", make_company)
    own = Path(shutil.copytree(made, tmp_path_factory.mktemp("command_line") / "made"))
    return own, json.loads((own / "said.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def folders(made) -> tuple[Path, Path]:
    """Two exports of a small company, the second 8 days later."""
    return made[0] / "first", made[0] / "second"


@pytest.fixture(scope="session")
def imported(made) -> tuple[Path, dict]:
    """A workspace with the first export, and what the import said."""
    return made[0] / "imported", made[1][0]


@pytest.fixture(scope="session")
def trained(made) -> tuple[Path, dict, dict]:
    """A workspace with a champion and a model of an earlier moment, and what the trainings said."""
    return made[0] / "trained", made[1][1], made[1][2]


@pytest.fixture
def workspace(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "workspace"))
