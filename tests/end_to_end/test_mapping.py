"""Public exports of other systems through the command line: each is imported, or refused with its reasons."""

import contextlib
import csv
import io
import json
from pathlib import Path

import pytest

from crm.store import read_tables
from dealcast.cli import answer

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def dealcast(workspace: Path, *arguments: object) -> tuple[int, dict]:
    """Run a command with `--json`: its exit code and its one document."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = answer(["--workspace", str(workspace), "--json", *map(str, arguments)])
    return code, json.loads(printed.getvalue())


def counts(document: dict) -> dict[str, tuple[int, int]]:
    """Rows read and refused by table."""
    return {name: (seen["read"], seen["refused"]) for name, seen in document["tables"].items()}


def test_salesforces_own_files_are_imported_with_the_states_of_every_deal(workspace: Path, shared: Path):
    folder = shared / "data" / "export_formats" / "salesforce_native"
    code, document = dealcast(workspace, "import", folder, "--mapping", "salesforce")
    assert code == 0 and document["quarantine"] is None
    assert counts(document) == {"deals": (36, 0), "deal_history": (167, 0), "accounts": (18, 0)}
    history = read_tables(workspace).get("deal_history").set_index("deal_id").loc["006bm00000LKdM8AAL"]
    stages = history[history["field"] == "stage"]
    assert stages[["old_value", "new_value"]].fillna("").to_numpy().tolist() == [
        ["", "Prospecting"],
        ["Prospecting", "Proposal/Price Quote"],
    ]
    assert {"what": "leads", "because": "Lead.csv has no column CreatedDate, which it needs"} in document["mapping"]
    assert not dealcast(workspace, "import", folder, "--mapping", "salesforce")[1]["changed"]


def test_fivetrans_salesforce_tables_are_imported_without_inventing_a_past(workspace: Path, shared: Path):
    folder = shared / "data" / "export_formats" / "fivetran_salesforce"
    code, document = dealcast(workspace, "import", folder, "--mapping", "fivetran_salesforce")
    assert code == 0 and document["quarantine"] is None
    read = {"deals": (8, 0), "activities": (20, 0), "accounts": (1, 0), "users": (8, 0), "line_items": (10, 0)}
    assert counts(document) == read  # its states were first seen months after the deals began: they are no changes
    assert read_tables(workspace).get("deals")["deleted_at"].notna().all()


def test_fivetrans_hubspot_tables_without_stages_are_refused_row_by_row(workspace: Path, shared: Path):
    folder = shared / "data" / "export_formats" / "fivetran_hubspot"
    code, document = dealcast(workspace, "import", folder, "--mapping", "fivetran_hubspot")
    assert code == 3 and document["error"]["details"][0] == {
        "where": "deal_data.csv, row 2, column deal_pipeline_stage_id",
        "value": "",
        "rule": "required, but empty",
        "next_step": document["error"]["details"][0]["next_step"],
    }
    (quarantine,) = (workspace / "quarantine").glob("*/deals.csv")
    with quarantine.open(newline="") as file:
        assert [line["row"] for line in csv.DictReader(file)] == [str(row) for row in range(2, 46)]


def test_fivetrans_hubspot_tables_with_stages_are_imported_whole(workspace: Path, shared: Path, tmp_path: Path):
    folder, filled = shared / "data" / "export_formats" / "fivetran_hubspot", tmp_path / "filled"
    filled.mkdir()
    with (folder / "deal_pipeline_stage_data.csv").open(newline="") as file:
        stage = next(csv.DictReader(file))
    for path in folder.glob("*.csv"):
        text = path.read_text("utf-8")
        if path.stem == "deal_data":  # the published sample has the stages scrambled away
            text = text.replace(",false,,,", f",false,{stage['pipeline_id']},{stage['stage_id']},")
        (filled / path.name).write_text(text, "utf-8")
    code, document = dealcast(workspace, "import", filled, "--mapping", "fivetran_hubspot")
    assert code == 0 and document["quarantine"] is None
    assert counts(document) == {
        "deals": (44, 0),
        "activities": (104, 0),
        "accounts": (24, 0),
        "users": (100, 0),
        "stages": (71, 0),
        "deal_contacts": (11, 0),
    }
    users = read_tables(workspace).get("users").set_index("user_id")
    assert users["team"].dropna().to_dict() == {} or set(users["team"].dropna()) <= {"team_01", "team_02", "team_03"}


def test_olists_leads_are_imported_without_a_column_that_tells_the_outcome(workspace: Path, shared: Path):
    folder = shared / "data" / "olist_funnel"
    code, document = dealcast(workspace, "import", folder, "--mapping", EXAMPLES / "olist.toml")
    assert code == 0 and counts(document) == {"deals": (6198, 0), "stages": (3, 0)}
    deals = read_tables(workspace).get("deals")
    won = deals["stage"] == "Won"
    assert (deals["closed_at"].notna() == won).all() and won.sum() > 500
    others = deals.drop(columns=["closed_at", "stage", "booked_on"], errors="ignore")
    filled = others.notna().groupby(won).mean()
    assert (filled.loc[True] - filled.loc[False]).abs().max() < 0.05


def test_mavens_deals_are_imported_without_a_column_that_tells_the_outcome(workspace: Path, shared: Path):
    folder = shared / "data" / "maven_crm"
    code, document = dealcast(workspace, "import", folder, "--mapping", EXAMPLES / "maven.toml")
    assert code == 0 and counts(document) == {"deals": (7115, 0), "users": (70, 0), "stages": (3, 0)}
    deals = read_tables(workspace).get("deals")
    closed = deals["closed_at"].notna()
    filled = deals.drop(columns=["closed_at", "booked_on"]).notna().groupby(closed).mean()
    assert filled.loc[True].equals(filled.loc[False]) and deals["amount"].notna().all()
    assert set(deals["product"]) & {"GTX Pro", "GTXPro"} == {"GTX Pro"}
    tree = read_tables(workspace).get("users").set_index("user_id")["manager_id"]
    assert len(tree) == 41 and tree.dropna().isin(tree.index).all()


def test_salvirts_deals_without_ids_and_days_are_refused_with_the_reason(workspace: Path, shared: Path, tmp_path: Path):
    folder, mapping = shared / "data" / "salvirt_b2b", tmp_path / "salvirt.toml"
    assert dealcast(workspace, "import", folder)[0] == 3
    code, document = dealcast(workspace, "map", folder, "--out", mapping)
    assert code == 0 and document["shape"] is None
    text = mapping.read_text("utf-8")
    assert "without it no deal can be followed" in text and "without it nothing can be learnt from the past" in text
    code, document = dealcast(workspace, "import", folder, "--mapping", mapping)
    places = [detail["where"] for detail in document["error"]["details"]]
    assert code == 2 and places[:2] == ["salvirt.toml, deals.columns.deal_id", "salvirt.toml, deals.columns.created_at"]


@pytest.mark.parametrize("name", ["salesforce", "fivetran_salesforce", "fivetran_hubspot"])
def test_known_exports_are_recognised_and_their_proposal_imports_as_the_shipped_mapping_does(
    name: str, workspace: Path, shared: Path, tmp_path: Path
):
    folder = shared / "data" / "export_formats" / name.replace("salesforce", "salesforce_native", name == "salesforce")
    mapping = tmp_path / "mapping.toml"
    code, document = dealcast(workspace, "map", folder, "--out", mapping)
    assert (code, document["shape"], document["to_do"]) == (0, name, 0)
    mine = dealcast(workspace, "import", folder, "--mapping", mapping)
    shipped = dealcast(tmp_path / "other", "import", folder, "--mapping", name)
    assert mine[0] == shipped[0] and mine[1].get("tables") == shipped[1].get("tables")


def test_a_proposal_is_shown_or_written_and_never_over_a_file_that_is_there(workspace: Path, tmp_path: Path, capsys):
    export = tmp_path / "export"
    export.mkdir()
    (export / "deals.csv").write_text("id,created,stage\n1,2026-01-01,[bold]A[/]\n")
    assert answer(["map", str(export)]) == 0
    shown = capsys.readouterr().out
    assert answer(["map", str(export), "--out", str(tmp_path / "new.toml")]) == 0
    assert (tmp_path / "new.toml").read_text("utf-8") == shown and '"[bold]A[/]"' in shown
    code, document = dealcast(workspace, "map", export, "--out", tmp_path / "new.toml")
    assert code == 2 and "is there already" in document["error"]["message"]
    assert dealcast(workspace, "map", tmp_path / "nowhere")[0] == 2
    assert not workspace.exists()
