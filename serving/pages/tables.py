"""A table of a page as a file for a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response

from crm.spreadsheet import safe_text


def answer_csv(rows: Iterable[Sequence[Any]], columns: Sequence[str], *, name: str = "review") -> Response:
    """Rows as CSV, to be kept as a file; unknown is empty, and no text is taken for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(text.getvalue().encode(), 200, headers, "text/csv; charset=utf-8")


def cell(value: Any) -> Any:
    """A value as a spreadsheet may read it."""
    return safe_text(value) if isinstance(value, str) else value
