"""Values of frames and documents as JSON knows them: one way to write an instant, a day and the unknown, everywhere."""

import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def to_plain(value: Any) -> Any:
    """Any value as JSON knows it: unknown = null, instants `2026-01-01T00:00:00Z`, days `2026-01-01`, never NaN.

    A frame becomes a list of its rows, an object with `to_dict` what that gives. A naive timestamp is a day, as it
    is in every frame.
    """
    if isinstance(value, pd.DataFrame):
        rows = value.itertuples(index=False, name=None)
        return [to_plain(dict(zip(value.columns, row, strict=True))) for row in rows]
    if hasattr(value, "to_dict"):
        return to_plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_plain(inner) for inner in value]
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime | np.datetime64):
        return _moment_text(pd.Timestamp(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _moment_text(moment: pd.Timestamp) -> str:
    if moment.tz is None:
        return moment.date().isoformat()
    return moment.tz_convert("UTC").isoformat().replace("+00:00", "Z")
