"""Another system's files and the mapping they are read by: what the tests of mappings write and look at."""

import csv
from pathlib import Path

import pandas as pd

from crm.ingest import import_folder
from crm.mapping import parse_mapping
from crm.report import ImportReport
from crm.store import read_tables

DEALS = """
[deals]
file = "Opps.csv"
[deals.columns]
deal_id = "Id"
created_at = "Born"
stage = "Phase"
is_closed = { column = "Phase", values = { Won = true, Lost = true, Open = false, Demo = false } }
is_won = { column = "Phase", values = { Won = true, Lost = false, Open = false, Demo = false } }
"""
OPPS = "Id,Born,Phase,Value\nA,2026-01-01,Open,10\nB,2026-01-02,Won,20\n"


class Foreign:
    """A folder of another system's files, the mapping they are read by, and a workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace, self.mapping = folder / "foreign", folder / "workspace", DEALS
        self.folder.mkdir()
        self.write("Opps", OPPS)

    def write(self, name: str, content: str) -> "Foreign":
        (self.folder / f"{name}.csv").write_text(content, "utf-8")
        return self

    def run(self, *, full: bool = False) -> ImportReport:
        now = pd.Timestamp("2026-03-01", tz="UTC")
        mapping = parse_mapping(self.mapping, "mapping.toml")
        return import_folder(self.workspace, self.folder, full=full, now=now, mapping=mapping)

    def rows(self, table: str, *columns: str) -> list[tuple]:
        frame = read_tables(self.workspace).get(table)
        return list(
            frame[list(columns)].astype(object).where(frame[list(columns)].notna(), None).itertuples(False, None)
        )

    def quarantine(self, report: ImportReport, table: str) -> list[dict[str, str]]:
        assert report.quarantine is not None
        with (report.quarantine / f"{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))
