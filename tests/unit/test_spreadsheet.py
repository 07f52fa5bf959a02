"""What a spreadsheet would run as a formula stands in our CSV files as text, and comes back as it was."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.spreadsheet import plain_text, safe_text
from dealcast.documents import write_table
from serving.pages.tables import answer_csv

RUNS = (
    *("=1+1", "=HYPERLINK(1)", "@SUM(A1)", "=a\r=b", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠SUM(A1)"),
    *("+cmd|' /C calc'!A0", "-cmd|' /C calc'!A0", "+1+HYPERLINK(1)", "-2+3*cmd()", "-(1)", "'=1+1", "''@x"),
)
STAYS = ("", "Acme", "-12", "+49 170 123", "-A7", "-3.5 %", "+12:30", "a=b", "1+1", "'", "'tis", "o'clock", "006A3")


@pytest.mark.parametrize("text", RUNS)
def test_what_would_run_gets_an_apostrophe_and_loses_nothing(text):
    assert safe_text(text) == f"'{text}" and plain_text(safe_text(text)) == text


@pytest.mark.parametrize("text", STAYS)
def test_what_would_not_run_stays_as_it_is(text):
    assert safe_text(text) == plain_text(text) == text


@given(st.text(st.sampled_from("=+-@'\t\r\n＝＋－＠aA1 (,.:%|!"), max_size=8) | st.text(max_size=8))
def test_any_text_comes_back_and_none_begins_like_a_formula(text):
    cell = safe_text(text)
    assert plain_text(cell) == text
    assert not cell.startswith(("=", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


def test_files_of_commands_and_of_pages_hold_no_formula(tmp_path):
    frame = pd.DataFrame({"deal_id": pd.Series(RUNS, dtype="str"), "reasons": [[{"text": text}] for text in RUNS]})
    write_table(frame, tmp_path / "out.csv")
    page = answer_csv([[text, None, 1.5] for text in RUNS], ["name", "nothing", "number"])
    for written in ((tmp_path / "out.csv").read_bytes(), page.body):
        rows = list(csv.reader(io.StringIO(written.decode(), newline="")))
        assert [plain_text(row[0]) for row in rows[1:]] == list(RUNS)
        assert not any(cell.startswith(("=", "@", "\t", "\r", "＝")) for row in rows for cell in row)
