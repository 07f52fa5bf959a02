"""What one data version consists of, as `data/versions` keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from crm.calendar import Calendar
from crm.tables import FieldClass


@dataclass(frozen=True)
class Folded:
    """What events have to do with a data version.

    Attributes
    ----------
    through : the number in the inbox up to which events were folded, into this version or into one before it.
    base : the version of the last import, on which events lie; None where none do.
    files : those of `data/events` that hold the events that lie on it.
    """

    through: int = 0
    base: str | None = None
    files: tuple[str, ...] = ()

    @staticmethod
    def from_dict(stored: Mapping[str, object]) -> "Folded":
        """What `vars` gave, from JSON values."""
        files, base = stored["files"], stored["base"]
        assert isinstance(files, list)
        return Folded(int(str(stored["through"])), None if base is None else str(base), tuple(files))


@dataclass(frozen=True)
class Manifest:
    """What one data version consists of.

    Attributes
    ----------
    tables : Delta version by table name.
    as_of : the data's moment: that of the import, or of the latest event.
    first_import_at : the data's moment of the first import into this workspace.
    stages_derived : whether the stages were concluded from deals.is_closed and is_won.
    currency_given : whether base_currency was stated rather than taken as the commonest.
    cursors : how far each connection to a CRM has been read, by its name; committed with what was read.
    folded : which events are in it.
    """

    data_version: str
    tables: Mapping[str, int]
    calendar: Calendar
    as_of: pd.Timestamp
    first_import_at: pd.Timestamp
    field_classes: Mapping[str, FieldClass]
    stages_derived: bool
    currency_given: bool
    cursors: Mapping[str, str]
    folded: Folded = Folded()

    def to_dict(self) -> dict[str, object]:
        """The manifest as JSON values."""
        return {
            "data_version": self.data_version,
            "tables": dict(self.tables),
            "calendar": self.calendar.to_dict(),
            "as_of": self.as_of.isoformat(),
            "first_import_at": self.first_import_at.isoformat(),
            "field_classes": {field: known.to_dict() for field, known in self.field_classes.items()},
            "stages_derived": self.stages_derived,
            "currency_given": self.currency_given,
            "cursors": dict(self.cursors),
            "folded": vars(self.folded),
        }

    @staticmethod
    def from_dict(stored: Mapping[str, object]) -> "Manifest":
        """The manifest from JSON values."""
        classes, tables, calendar = stored["field_classes"], stored["tables"], stored["calendar"]
        cursors = stored.get("cursors", {})
        assert isinstance(classes, dict) and isinstance(tables, dict) and isinstance(calendar, dict)
        folded = stored.get("folded")
        assert isinstance(cursors, dict) and isinstance(folded, dict | None)
        return Manifest(
            data_version=str(stored["data_version"]),
            tables={name: int(version) for name, version in tables.items()},
            calendar=Calendar.from_dict(calendar),
            as_of=_moment(stored["as_of"]),
            first_import_at=_moment(stored["first_import_at"]),
            field_classes={field: FieldClass.from_dict(known) for field, known in classes.items()},
            stages_derived=bool(stored["stages_derived"]),
            currency_given=bool(stored["currency_given"]),
            cursors=cursors,
            folded=Folded() if folded is None else Folded.from_dict(folded),
        )


def _moment(stored: object) -> pd.Timestamp:
    return pd.Timestamp(str(stored)).as_unit("us")
