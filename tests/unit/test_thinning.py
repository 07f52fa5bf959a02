"""Old versions leave the disk, and nothing that anybody reads goes with them."""

import pandas as pd
import pytest
from importing_company import Company
from test_events import deal, fold, imported

from crm.errors import DataUnusable
from crm.store import read_tables
from crm.thinning import LATEST, thin_out
from crm.versions import read_manifest

LATER = pd.Timestamp("2999-01-01", tz="UTC")
EARLIER = pd.Timestamp("2000-01-01", tz="UTC")


@pytest.fixture
def company(tmp_path) -> Company:
    return imported(tmp_path)


def parquet_files(company: Company) -> int:
    return len(list((company.workspace / "data" / "deals").glob("*.parquet")))


def test_old_versions_of_events_go_and_those_of_imports_and_the_newest_stay(company: Company):
    for number in range(1, 16):
        fold(company, deal("A", amount=number, updated_at=f"2026-03-{number + 1:02d}"), first=number)
    before = {f"{version:06d}": read_tables(company.workspace, f"{version:06d}") for version in range(1, 17)}
    assert thin_out(company.workspace, before=EARLIER) == 0 and parquet_files(company) == 16
    assert thin_out(company.workspace, before=LATER) > 0
    assert parquet_files(company) == 1 + LATEST
    for version, tables in before.items():
        if version == "000001" or int(version) > 16 - LATEST:
            after = read_tables(company.workspace, version)
            for name, frame in tables.tables.items():
                pd.testing.assert_frame_equal(after.tables[name], frame)
        else:
            with pytest.raises(DataUnusable, match="are gone"):
                read_tables(company.workspace, version)
            assert read_manifest(company.workspace, version).folded.through == int(version) - 1
    assert thin_out(company.workspace, before=LATER) == 0


def test_events_are_folded_on_after_old_versions_went(company: Company):
    for number in range(1, 16):
        fold(company, deal("A", amount=number, updated_at=f"2026-03-{number + 1:02d}"), first=number)
    thin_out(company.workspace, before=LATER)
    after = fold(company, deal("A", amount=99, updated_at="2026-03-20"), first=16)
    history = after.get("deal_history")
    assert history.loc[history["field"] == "amount", "new_value"].tolist()[-2:] == ["15", "99"]
    assert after.get("deals").set_index("deal_id").loc["A", "amount"] == 99
