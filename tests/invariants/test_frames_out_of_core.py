"""Features built out of core, range by range, are the features built of the whole company at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from crm.facts import classify_fields
from crm.history import build_history, snapshot_spine
from crm.store import read_tables, write_version
from crm.tables import CrmTables
from features.build import build_features
from features.frames import count_snapshots, each_frame, write_frames
from features.stored import StoredFacts, lay_out
from tests.invariants.kept_companies import assert_same_features, taken

pytestmark = pytest.mark.slow

DEALS_EACH = 40
COMPANIES = ["stage rows only", "silent closings", "migrated"]


def stored(workspace: Path, tables: CrmTables) -> CrmTables:
    """The tables as a data version of the workspace, read back."""
    tables = replace(tables, first_import_at=tables.first_import_at or tables.as_of)
    write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)
    return read_tables(workspace)


def with_oddities(tables: CrmTables) -> CrmTables:
    """Fields only this CRM has; activities of no deal or of none that is there; a bulk load over ranges; gold."""
    deals, activities = tables.get("deals"), tables.get("activities").copy()
    number = pd.Series(np.arange(len(deals)), index=deals.index)
    deals = deals.assign(
        competitor=pd.Series(np.where(number % 3 == 0, "Initech", "Hooli"), index=deals.index, dtype="str"),
        seats=number.astype("float64"),
        _first_seen_at=deals.get("_first_seen_at", pd.Series(pd.NaT, index=deals.index)).astype("datetime64[us, UTC]"),
    )
    same_instant = pd.Timestamp("2023-01-02T03:04:05", tz="UTC").as_unit("us")
    early = deals["created_at"] <= deals["created_at"].quantile(0.85)
    assert early.sum() >= 100, "fewer were no bulk load"
    deals.loc[early, "created_at"] = same_instant
    activities.loc[activities.index[::50], "deal_id"] = None
    activities.loc[activities.index[1::50], "deal_id"] = "somewhere else"
    # A currency that only the first range of deals has ever seen.
    deals.loc[deals.index[:5], "currency"] = "XAU"
    rates = tables.get("exchange_rates")
    gold = rates.iloc[:1].assign(currency="XAU", rate_to_base=9.0)
    tables = tables.with_tables(
        deals=deals,
        activities=activities.sort_values("deal_id", kind="stable"),
        exchange_rates=pd.concat([rates, gold], ignore_index=True),
    )
    calendar = replace(tables.calendar, stable_fields=(*tables.calendar.stable_fields, "competitor", "seats"))
    tables = replace(tables, calendar=calendar)
    return replace(tables, field_classes=classify_fields(tables))


def moments_of(tables: CrmTables) -> list[pd.Timestamp]:
    return tables.calendar.moments(tables.get("deals")["created_at"].min(), tables.as_of)[::2]


def together(facts: StoredFacts, moments: list[pd.Timestamp], most_at_once: int) -> pd.DataFrame:
    frames = list(each_frame(facts, moments, most_at_once=most_at_once, threads=1))
    return pd.concat(frames, ignore_index=True).sort_values(["as_of", "deal_id"], ignore_index=True)


def assert_same_out_of_core(workspace: Path, tables: CrmTables, most_at_once: int) -> None:
    tables = stored(workspace, tables)
    history, moments = build_history(tables), moments_of(tables)
    spine = snapshot_spine(history, moments).sort_values(["as_of", "deal_id"], ignore_index=True)
    facts = lay_out(workspace, deals_each=DEALS_EACH)
    assert facts.ranges > 2
    assert count_snapshots(facts, moments) == len(spine)
    expected = build_features(tables, history, spine, threads=1)
    assert_same_features(together(facts, moments, most_at_once), expected)


@pytest.mark.parametrize("most_at_once", [40, 400, 100_000], ids=["ranges cut", "ranges joined", "all at once"])
def test_features_of_a_company_with_everything_odd(tmp_path: Path, most_at_once: int):
    assert_same_out_of_core(tmp_path, with_oddities(taken("stage rows only")), most_at_once)


@pytest.mark.parametrize("company", COMPANIES)
def test_features_however_the_crm_was_kept(tmp_path: Path, company: str):
    assert_same_out_of_core(tmp_path, taken(company), 500)


def test_features_with_the_field_classes_of_a_model(tmp_path: Path):
    tables = stored(tmp_path, taken("plain"))
    classes = {name: replace(known, tracked="untracked", since=None) for name, known in tables.field_classes.items()}
    as_trained = replace(tables, field_classes=classes)
    history, moments = build_history(as_trained), moments_of(tables)[-3:]
    expected = build_features(as_trained, history, snapshot_spine(history, moments), threads=1)
    facts = lay_out(tmp_path, field_classes=classes, deals_each=DEALS_EACH)
    assert_same_features(together(facts, moments, 1_000), expected)
    own = together(lay_out(tmp_path, deals_each=DEALS_EACH), moments, 1_000)
    assert not own.equals(expected), "the version's own classes must not be taken for the model's"


def test_frames_are_written_whole_and_say_what_they_hold(tmp_path: Path):
    tables = stored(tmp_path / "workspace", taken("plain"))
    moments, folder = moments_of(tables), tmp_path / "frames"
    facts = lay_out(tmp_path / "workspace", deals_each=DEALS_EACH)
    for _ in range(2):  # what is there is replaced
        frames = write_frames(facts, moments, folder, most_at_once=150, threads=1)
    read = [pq.read_table(path) for path in frames.paths]
    assert [len(part) for part in read] == list(frames.rows) and len(read) > 2
    assert sorted(path.name for path in folder.iterdir()) == ["frames.json", *(path.name for path in frames.paths)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert tuple(read[0].column_names) == ("deal_id", "as_of", *frames.features)
    deals = pd.concat([part["deal_id"].to_pandas() for part in read])
    assert frames.deals == deals.nunique()


def test_facts_are_made_once_and_those_of_older_versions_go(tmp_path: Path):
    tables = stored(tmp_path, taken("plain"))
    first = lay_out(tmp_path, deals_each=DEALS_EACH)
    made = (first.folder / "facts.json").stat().st_mtime_ns
    assert (lay_out(tmp_path, deals_each=DEALS_EACH).folder / "facts.json").stat().st_mtime_ns == made
    stored(tmp_path, tables)
    second = lay_out(tmp_path, deals_each=DEALS_EACH)
    assert second.folder != first.folder and not first.folder.exists()


def test_facts_that_were_not_finished_are_no_facts(tmp_path: Path):
    stored(tmp_path, taken("plain"))

    def stop(step: str, share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lay_out(tmp_path, deals_each=DEALS_EACH, progress=stop)
    assert [path.name for path in (tmp_path / "frames").iterdir()] == [".lock"]
    assert lay_out(tmp_path, deals_each=DEALS_EACH).ranges > 2
