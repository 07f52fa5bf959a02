"""Fields that only this CRM has, as features: declared by their name and type alone, with safe defaults.

The name says everything, so a trained model needs no more to build them again: `category:competitor` is a text field,
`number:seats` a number (or yes/no as 1 and 0), `days_to:pilot_ends_on` a date, in days from the as-of moment. They are
read by the same as-of rule as all fields; a field that closing fills in silently is unknown until then for every deal.
"""

import pandas as pd

from crm.contract import TABLES
from crm.tables import CrmTables
from features.spec import DAY, Deal, Feature, Term


def custom_feature(name: str) -> Feature | None:
    """The feature that a name like `number:seats` declares; None if it is no such name."""
    kind, _, field = name.partition(":")
    if kind not in _DECLARED or not field:
        return None
    unit, description, *sentences = _DECLARED[kind]
    spelled = field.replace("_", " ").translate(_NO_PLACES)
    reason, at_zero, below = (sentence.replace("FIELD", spelled) for sentence in sentences)
    return Feature(
        name=name,
        family="custom",
        description=description.format(field=field),
        unit=unit,
        higher_is="neutral",
        controlled_by="seller",
        audience="everyone",
        reason=reason,
        at_zero=at_zero,
        below=below,
        missing="the CRM does not say",
        term=_term(kind, field),
    )


def custom_features(tables: CrmTables) -> list[Feature]:
    """One feature for every custom field of the deals, in the order of the columns."""
    deals = tables.get("deals")
    found = (custom_feature(f"{_kind_of(deals[name])}:{name}") for name in custom_columns(tables))
    return [declared for declared in found if declared is not None]


def custom_columns(tables: CrmTables) -> dict[str, str]:
    """The deal fields that are not the contract's, each with the name of its column in the relation state."""
    own = [name for name in tables.get("deals") if name not in TABLES["deals"].columns and not name.startswith("_")]
    return {name: f"field_{place}" for place, name in enumerate(own)}


_NO_PLACES = str.maketrans("{}", "()")
"""A field's name may hold braces; a sentence fills in what stands in them."""
_DAYS_TO = (
    "days",
    "Days from the moment to the CRM's own field {field}; negative after it.",
    "FIELD in {value:.0f} {day|days}",
    "FIELD today",
    "FIELD {value:.0f} {day|days} ago",
)
_DECLARED = {
    "category": ("category", "The CRM's own field {field}.", "FIELD: {value}", "", ""),
    "number": ("number", "The CRM's own field {field}; yes is 1, no is 0.", "FIELD is {value:.4g}", "", ""),
    "days_to": _DAYS_TO,
    "days_to_instant": _DAYS_TO,
}


def _term(kind: str, field: str) -> Term:
    deal = Deal()
    value = deal.custom(field)
    if kind == "days_to":
        return value - deal.clock("as_of_day")
    return (value - deal.as_of) / DAY if kind == "days_to_instant" else value


def _kind_of(values: pd.Series) -> str:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return "days_to_instant"
    if pd.api.types.is_datetime64_dtype(values):
        return "days_to"
    return "number" if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) else "category"
