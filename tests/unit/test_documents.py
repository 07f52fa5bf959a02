import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crm.errors import Detail, UsageError
from crm.plain import to_plain
from dealcast.documents import check_out, error_document, render_document, write_table

INSTANT = pd.Timestamp("2026-01-01T09:30:00", tz="Europe/Amsterdam")


def a_score_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "deal_id": pd.Series(["00600000012", "007"], dtype="str"),
            "as_of": pd.Series([INSTANT.tz_convert("UTC")] * 2, dtype="datetime64[us, UTC]"),
            "expected_close_date": pd.Series([pd.Timestamp("2026-03-01"), pd.NaT], dtype="datetime64[us]"),
            "amount_base": [1200.5, np.nan],
            "amount_source": pd.Series(["crm", None], dtype="str"),
            "reasons": [[{"feature": "stage", "text": "naïve “stage”", "effect": -3.5}], []],
        }
    )


def test_unknown_values_of_every_kind_are_null():
    assert to_plain([None, np.nan, pd.NaT, pd.NA, np.inf]) == [None] * 5


def test_instants_are_utc_with_a_z_and_naive_days_are_dates():
    assert to_plain(INSTANT) == "2026-01-01T08:30:00Z"
    assert to_plain(pd.Timestamp("2026-03-01")) == "2026-03-01"
    assert to_plain(INSTANT.to_pydatetime()) == "2026-01-01T08:30:00Z"
    assert to_plain(INSTANT.date()) == "2026-01-01"


def test_numpy_values_become_plain_numbers_and_booleans():
    plain = to_plain({"n": np.int64(3), "p": np.float64(0.5), "yes": np.bool_(True), "no": False})
    assert plain == {"n": 3, "p": 0.5, "yes": True, "no": False}
    assert type(plain["yes"]) is bool and type(plain["n"]) is int


def test_a_frame_becomes_its_rows_with_real_lists():
    first, second = to_plain(a_score_frame())
    assert first["reasons"] == [{"feature": "stage", "text": "naïve “stage”", "effect": -3.5}]
    assert second["reasons"] == [] and second["amount_base"] is None and second["amount_source"] is None
    assert second["expected_close_date"] is None


def test_a_document_is_valid_strict_json():
    text = render_document({"p": float("nan"), "frame": a_score_frame()})
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["p"] is None
    assert text.endswith("}\n")


def test_an_error_document_has_every_part_of_a_detail():
    document = error_document("invalid", "No.", (Detail("deals.csv, row 41", "2026-13-02", "a date", "fix it"),))
    assert document == {
        "error": {
            "code": "invalid",
            "message": "No.",
            "details": [{"where": "deals.csv, row 41", "value": "2026-13-02", "rule": "a date", "next_step": "fix it"}],
        }
    }


def test_csv_keeps_ids_as_text_reasons_as_json_and_dates_as_dates(tmp_path: Path):
    write_table(a_score_frame(), tmp_path / "scores.csv")
    read = pd.read_csv(tmp_path / "scores.csv", dtype=str, keep_default_na=False)
    assert list(read["deal_id"]) == ["00600000012", "007"]
    assert list(read["as_of"]) == ["2026-01-01T08:30:00Z"] * 2
    assert list(read["expected_close_date"]) == ["2026-03-01", ""]
    assert [json.loads(text) for text in read["reasons"]] == list(a_score_frame()["reasons"])


def test_parquet_keeps_ids_as_text_and_reads_back_the_same(tmp_path: Path):
    write_table(a_score_frame(), tmp_path / "scores.parquet")
    read = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(read["deal_id"]) == ["00600000012", "007"]
    assert read["as_of"].dt.tz is not None and read["as_of"].iloc[0] == INSTANT
    assert str(read["expected_close_date"].iloc[0]) == "2026-03-01"
    assert [json.loads(text) for text in read["reasons"]] == list(a_score_frame()["reasons"])
    assert pd.isna(read["amount_source"].iloc[1])


def test_an_empty_table_keeps_its_columns(tmp_path: Path):
    for name in ("none.csv", "none.parquet"):
        write_table(a_score_frame().iloc[:0], tmp_path / name)
    assert list(pd.read_csv(tmp_path / "none.csv").columns) == list(a_score_frame().columns)
    assert list(pd.read_parquet(tmp_path / "none.parquet").columns) == list(a_score_frame().columns)


@pytest.mark.parametrize("name", ["scores.xlsx", "scores", "nowhere/scores.csv"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str):
    with pytest.raises(UsageError) as refusal:
        check_out(tmp_path / name)
    assert refusal.value.details[0].where == "--out" and refusal.value.details[0].next_step


def test_nothing_is_left_behind_when_a_folder_stands_in_the_way(tmp_path: Path):
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(UsageError):
        write_table(a_score_frame(), tmp_path / "scores.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
