"""The part of OData's `$filter` that is asked of the stand-in of Dynamics."""

from typing import Any


def conditions(text: str) -> list[str]:
    return text.split(" and ") if text else []


def met(row: dict[str, Any], condition: str) -> bool:
    if condition.startswith("("):
        return any(met(row, one) for one in condition.strip("()").split(" or "))
    column, compare, value = condition.split(" ", 2)
    literal: Any = {"null": None, "true": True, "false": False}.get(value, value.strip("'"))
    held = row.get(column)
    held = str(held) if isinstance(literal, str) and held is not None else held
    return {"eq": lambda: held == literal, "ne": lambda: held != literal, "ge": lambda: held >= literal}[compare]()
