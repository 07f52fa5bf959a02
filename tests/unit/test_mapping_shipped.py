"""The shipped mappings on small exports in the shape of the systems they are for, and the examples of the guide."""

import re
from pathlib import Path

import pandas as pd
import pytest

from crm.history import build_history, open_deals
from crm.ingest import import_folder
from crm.mapping import load_mapping, parse_mapping
from crm.mapping_language import Document, Join, Rule, Source, Written
from crm.report import ImportReport
from crm.store import read_tables
from crm.tables import CrmTables

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "mapping.md"
NOW = pd.Timestamp("2026-06-01", tz="UTC")


class Export:
    """A folder of files, imported through a shipped mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder / "export", folder / "workspace"
        self.folder.mkdir()

    def write(self, **files: str) -> "Export":
        for name, content in files.items():
            (self.folder / f"{name}.csv").write_text(content, "utf-8")
        return self

    def imported(self, mapping: str) -> tuple[ImportReport, CrmTables]:
        report = import_folder(self.workspace, self.folder, full=False, now=NOW, mapping=load_mapping(mapping))
        assert report.quarantine is None
        return report, read_tables(self.workspace)


@pytest.fixture
def exported(tmp_path: Path) -> Export:
    return Export(tmp_path)


def rows(tables: CrmTables, table: str, *columns: str) -> list[tuple]:
    frame = tables.get(table)[list(columns)]
    return sorted(frame.astype(object).where(frame.notna(), None).itertuples(False, None), key=str)


SALESFORCE = {
    "Opportunity": "Id,StageName,CreatedDate,CloseDate,Amount,ForecastCategory,LeadSource,IsDeleted,SystemModstamp\n"
    "006A,Talk,2026-01-05T09:00:00.000+0000,2026-06-30,100,Pipeline,Web,false,2026-03-01T00:00:00Z\n"
    "006B,Signed,2026-01-06T09:00:00.000Z,02/28/2026,200,Closed,Fair,false,2026-03-01T00:00:00Z\n"
    "006C,Talk,01/07/2026 09:00 AM,02/28/26,300,Forecast,,true,2026-03-02T00:00:00Z\n",
    "OpportunityStage": "MasterLabel,SortOrder,IsClosed,IsWon,DefaultProbability\n"
    "Talk,1,false,false,35\nSigned,2,true,true,100\n",
    "OpportunityHistory": "OpportunityId,CreatedDate,StageName,Amount,CloseDate,ForecastCategory,CreatedById\n"
    "006B,2026-02-28T15:00:00.000Z,Signed,200,02/28/2026,Closed,005X\n"
    "006B,2026-01-06T09:00:01.000Z,Talk,150,2026-03-31,BestCase,005X\n",
    "OpportunityFieldHistory": "OpportunityId,CreatedDate,Field,OldValue,NewValue,CreatedById\n"
    "006B,2026-02-01T00:00:00Z,LeadSource,Web,Fair,005X\n006B,2026-02-01T00:00:00Z,StageName,Talk,Signed,005X\n",
    "User": "Id,Name,ManagerId,UserRoleId,Department\n005X,Ann,005Y,00EA,North\n005Y,Bob,,,\n",
    "UserRole": "Id,Name\n00EA,Rep\n",
    "Task": "Id,WhatId,CreatedDate,ActivityDate,CompletedDateTime,TaskSubtype,IsClosed,CallDurationInSeconds\n"
    "00T1,006A,2026-01-08T10:00:00Z,2026-01-08,2026-01-08T09:30:00Z,Call,true,90\n"
    "00T2,001Z,2026-01-09T10:00:00Z,2026-01-09,,Task,true,\n00T3,006A,2026-01-09T10:00:00Z,2026-09-09,,Task,false,\n",
    "Event": "Id,WhatId,CreatedDate,StartDateTime,DurationInMinutes\n"
    "00U1,006B,2026-01-10T00:00:00Z,2026-01-12T10:00:00Z,30\n",
}


def test_salesforces_files_become_deals_with_their_past_and_their_people(exported: Export):
    _, tables = exported.write(**SALESFORCE).imported("salesforce")
    deals = tables.get("deals").set_index("deal_id")
    assert deals["close_date"].dt.strftime("%m-%d").to_dict() == {"006A": "06-30", "006B": "02-28", "006C": "02-28"}
    assert deals["forecast_category"].to_list() == ["pipeline", "closed", "commit"]
    assert deals["deleted_at"].notna().to_dict() == {"006A": False, "006B": False, "006C": True}
    assert rows(tables, "deal_history", "field", "old_value", "new_value") == [
        ("amount", "150", "200"),
        ("amount", None, "150"),
        ("close_date", "2026-03-31", "2026-02-28"),
        ("close_date", None, "2026-03-31"),
        ("forecast_category", "best_case", "closed"),
        ("forecast_category", None, "best_case"),
        ("lead_source", "Web", "Fair"),  # the stage comes with the states already, and only once
        ("stage", "Talk", "Signed"),
        ("stage", None, "Talk"),
    ]
    assert rows(tables, "stages", "stage", "is_won", "default_probability") == [
        ("Signed", True, 1.0),
        ("Talk", False, 0.35),
    ]
    assert rows(tables, "users", "user_id", "role", "manager_id") == [("005X", "Rep", "005Y"), ("005Y", None, None)]
    assert rows(tables, "activities", "activity_id", "deal_id", "type", "duration_minutes") == [
        ("00T1", "006A", "call", 1.5),
        ("00T2", None, "task", None),  # of an account, not of a deal; 00T3 has not taken place
        ("00U1", "006B", "meeting", 30.0),
    ]


def test_a_salesforce_deal_closes_when_its_states_say_so(exported: Export):
    _, tables = exported.write(**SALESFORCE).imported("salesforce")
    history = build_history(tables)
    for day, still_open in (("2026-02-27", {"006A", "006B", "006C"}), ("2026-03-01", {"006A", "006C"})):
        assert set(open_deals(history, pd.Timestamp(day, tz="UTC"))["deal_id"]) == still_open


def test_fivetrans_history_mode_becomes_changes_and_only_active_rows_are_the_present(exported: Export):
    exported.write(
        opportunity="id,stage_name,created_date,close_date,amount,is_closed,is_won,_fivetran_active\n"
        "006A,Offer,2026-01-05 09:00:00,2026-06-30 00:00:00,100,false,false,true\n"
        "006A,Talk,2026-01-05 09:00:00,2026-06-30 00:00:00,100,false,false,false\n"
        "006B,Signed,2025-01-05 09:00:00,2025-06-30 00:00:00,100,true,true,true\n",
        opportunity_history="id,stage_name,amount,close_date,_fivetran_start\n"
        "006A,Talk,100,2026-06-30 00:00:00,2026-01-05 09:00:20\n"
        "006A,Offer,100,2026-06-30 00:00:00,2026-02-01 00:00:00\n"
        "006B,Signed,100,2025-06-30 00:00:00,2026-01-01 00:00:00\n",
    )
    report, tables = exported.imported("fivetran_salesforce")
    assert rows(tables, "deals", "deal_id", "stage") == [("006A", "Offer"), ("006B", "Signed")]
    stages = [
        row for row in rows(tables, "deal_history", "deal_id", "field", "old_value", "new_value") if "stage" in row
    ]
    assert stages == [("006A", "stage", "Talk", "Offer"), ("006A", "stage", None, "Talk")]
    closed = tables.get("deals").set_index("deal_id")["closed_at"]
    assert f"{closed['006B']:%Y-%m-%d}" == "2025-06-30" and pd.isna(closed["006A"])  # not when it was first seen
    assert any("states found later than the beginning" in note["because"] for note in report.mapping)


def test_fivetrans_hubspot_properties_become_changes_and_merged_deals_are_known(exported: Export):
    exported.write(
        deal="deal_id,deal_pipeline_id,deal_pipeline_stage_id,owner_id,property_createdate,property_closedate,is_deleted\n"
        "1,p,won,7,2026-01-05 09:00:00.250,2026-02-10 23:30:00,false\n2,p,talk,7,2026-01-06 09:00:00,,false\n"
        "3,p,talk,,2026-01-06 09:00:00,,false\n",
        deal_pipeline_stage="stage_id,pipeline_id,label,display_order,probability,is_closed,closed_won\n"
        "talk,p,Talking,0,0.2,FALSE,FALSE\nwon,p,Signed,1,1.0,TRUE,TRUE\n",
        deal_property_history="deal_id,name,value,timestamp\n1,dealstage,won,2026-02-10 23:30:00.5\n"
        "1,dealstage,talk,2026-01-05 09:00:00.250\n1,closedate,1767225600000,2026-01-20 00:00:00\n"
        "1,notes,x,2026-01-20 00:00:00\n",
        deal_company="deal_id,company_id\n1,55\n",
        merged_deal="deal_id,merged_deal_id\n2,3\n",
        owner="owner_id,last_name,email\n7,Ann,a@example.com\n",
        owner_team="owner_id,team_id,is_team_primary\n7,8,false\n7,9,true\n",
        team="id,name\n8,South\n9,North\n",
        engagement_email="engagement_id,property_hs_timestamp,property_hs_createdate\n"
        "100,2026-01-07 10:00:00,2026-01-07 10:00:01\n",
        engagement_deal="engagement_id,deal_id\n100,1\n",
    )
    _, tables = exported.imported("fivetran_hubspot")
    deals = tables.get("deals").set_index("deal_id")
    assert deals["merged_into"].dropna().to_dict() == {"3": "2"}
    assert deals.at["1", "account_id"] == "55" and f"{deals.at['1', 'closed_at']:%m-%d %H:%M}" == "02-10 23:30"
    assert rows(tables, "deal_history", "field", "old_value", "new_value") == [
        ("close_date", None, "2026-01-01"),
        ("stage", "talk", "won"),
        ("stage", None, "talk"),
    ]
    assert rows(tables, "users", "user_id", "team") == [("7", "North")]
    assert rows(tables, "activities", "activity_id", "deal_id", "type") == [("100", "1", "email")]


def test_the_worked_example_of_the_guide_works(tmp_path: Path):
    text = GUIDE.read_text("utf-8").split("## A worked example")[1]
    deals, log = re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL)
    (mapping,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "Opps.csv").write_text(deals, "utf-8")
    (folder / "Changes.csv").write_text(log, "utf-8")
    report = import_folder(
        tmp_path / "workspace", folder, full=False, now=NOW, mapping=parse_mapping(mapping, "mapping.toml")
    )
    assert report.quarantine is None and not report.mapping
    tables = read_tables(tmp_path / "workspace")
    assert rows(tables, "deals", "deal_id", "amount", "stage") == [("7", 1250.0, "Offer"), ("8", 800.0, "Signed")]
    assert tables.get("deals")["created_at"].iloc[0] == pd.Timestamp("2026-02-24T01:55:00Z")
    assert rows(tables, "deal_history", "old_value", "new_value") == [("First talk", "Offer"), (None, "First talk")]


def test_every_key_of_the_language_stands_in_the_guide():
    guide = GUIDE.read_text("utf-8")
    for part in (Source, Join, Rule, Written):
        assert all(re.search(rf"`{key}(\.NAME)?`", guide) for key in part.model_fields)
    assert set(Document.model_fields) == {"calendar", "formats", "partial", "tables"}
