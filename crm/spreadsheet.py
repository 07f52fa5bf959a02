"""Text in CSV files that people open in a spreadsheet: what would run there as a formula is shown as text instead."""

import re

_FORMULA = re.compile(r"'*(?:[=@\t\r\n＝＋－＠]|[+-](?![\w.,:% -]*\Z))")
"""How a formula begins; `+` and `-` alone begin numbers, times and ids as well, which call nothing."""


def safe_text(text: str) -> str:
    """A text as a cell of a CSV file.

    A spreadsheet runs what begins like a formula, whoever wrote it into the CRM. Such a text gets an apostrophe in
    front, ids too; all others stay as they are, `-12`, `+49 170` and `-A7` among them. A text that begins with
    apostrophes before a formula gets one more, so that nothing is lost to a program: `plain_text` undoes it. Parquet
    files hold every text as it is.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def plain_text(cell: str) -> str:
    """The text of a cell that `safe_text` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
