"""The worked example runs, from the first block to the last, as a reader would run it."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "notebook.md"


@pytest.mark.slow
def test_every_block_of_the_notebook_page_runs_in_order(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)
    assert len(blocks) >= 6
    known: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
    shown = capsys.readouterr().out
    assert "log loss" in shown and "still_open" in shown
