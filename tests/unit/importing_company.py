"""A company whose exports are imported day by day: what the tests of imports write and look at."""

import csv
import json
from pathlib import Path

import pandas as pd

from crm.ingest import import_folder
from crm.report import ImportReport
from crm.store import read_tables

STAGES = (
    "stage,sort_order,is_closed,is_won\nOpen,1,false,false\nDemo,2,false,false\nWon,3,true,true\nLost,4,true,false\n"
)
DEALS = "deal_id,created_at,stage,amount\nA,2026-01-01,Open,10\nB,2026-01-02,Demo,20\n"


class Company:
    """A workspace, and a folder that can be filled and imported day by day."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.source = folder / "export"
        self.source.mkdir()
        self.write(stages=STAGES)

    def write(self, **files: str) -> "Company":
        for name, content in files.items():
            (self.source / f"{name}.csv").write_text(content, encoding="utf-8")
        return self

    def calendar(self, **settings: object) -> "Company":
        (self.source / "calendar.json").write_text(json.dumps(settings))
        return self

    def without(self, *names: str) -> "Company":
        for name in names:
            (self.source / f"{name}.csv").unlink()
        return self

    def run(self, day: str = "2026-03-01", *, full: bool = False) -> ImportReport:
        return import_folder(self.workspace, self.source, full=full, now=pd.Timestamp(day, tz="UTC"))

    def table(self, name: str) -> pd.DataFrame:
        return read_tables(self.workspace).get(name)

    def deal(self, deal_id: str) -> dict[str, object]:
        return self.table("deals").set_index("deal_id").loc[deal_id].to_dict()  # type: ignore[return-value]

    def history(self, *columns: str) -> list[tuple]:
        return list(self.table("deal_history")[list(columns)].itertuples(index=False, name=None))

    def quarantine(self, report: ImportReport, table: str) -> list[dict[str, str]]:
        assert report.quarantine is not None
        with (report.quarantine / f"{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))
