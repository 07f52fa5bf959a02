"""A Tryton table's past: its states at every revision, read with as few calls as possible, and the changes between.

Tryton keeps a copy of the whole row at every write, and reads any set of rows as they stood at one moment (context
`_datetime`). A revision holds until the next one of its row, so one moment can serve revisions of many rows: the
moments asked for are the fewest such that each of these spans holds one.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from crm.connectors.base import in_batches
from crm.connectors.tryton_rpc import Record, TrytonRefused, TrytonSession, decoded

JUST_BEFORE = pd.Timedelta(1, "us")
RECORDS_AT_ONCE = 1000
"""Tryton refuses calls with more than 2000, unless it is told otherwise."""
TOLD_AT_ONCE = 500


@dataclass(frozen=True)
class Revision:
    """A record as it stood from a moment on; `record` is None from its deletion on."""

    at: pd.Timestamp
    record: Record | None


def read_told_revisions(
    session: TrytonSession, model: str, ids: Sequence[int], fields: Sequence[str], *, until: pd.Timestamp
) -> dict[int, list[Revision]]:
    """What became of records up to a moment, it included, in order of time; where our Tryton module tells at once.

    Returns
    -------
    As `read_revisions`.
    """
    found: dict[int, list[Revision]] = defaultdict(list)
    for some in in_batches(ids, TOLD_AT_ONCE):
        for record_id, at, values in decoded(json.loads(session.call(f"model.{model}.past", some, list(fields)))):
            if at <= until:
                record = None if values is None else {"id": record_id, **dict(zip(fields, values, strict=True))}
                found[record_id].append(Revision(at, record))
    return {each: revisions for each, revisions in found.items() if any(one.record for one in revisions)}


def read_revisions(
    session: TrytonSession,
    model: str,
    ids: Sequence[int],
    fields: Sequence[str],
    *,
    links: Collection[str],
    until: pd.Timestamp,
) -> dict[int, list[Revision]]:
    """What became of records up to a moment, it included, in order of time; over the API of any Tryton.

    Parameters
    ----------
    fields : to read; create_date is among them.
    links : those of the fields that refer to other records.

    Returns
    -------
    Revisions by id; ids without any, or never visible to the user, have no entry.
    """
    moments: dict[int, set[pd.Timestamp]] = defaultdict(set)
    for at, record_id, _user in session.call(f"model.{model}.history_revisions", list(ids)):
        if at <= until:
            moments[record_id].add(at)
    past = PastReader(session, model, fields, links)
    pages = session.pages(model, [["id", "in", list(ids)]], [*fields, "write_date"])
    standing = {record["id"]: record for page in pages for record in page}
    if standing:
        past.exported([min(standing)], None)  # if it is refused, the user may not read these fields at all
    # The last revision of most is what stands now, which has been read at once.
    states: dict[tuple[int, pd.Timestamp], Record | None] = {
        (number, record["write_date"] or record["create_date"]): record for number, record in standing.items()
    }
    for record_id in moments.keys() - standing.keys():
        # What is gone ends with a tombstone; and if it could not be seen just before, it never was ours to see.
        *before, end = sorted(moments[record_id])
        states[record_id, end] = None
        if not before or not past.read([record_id], end - JUST_BEFORE):
            del moments[record_id]
    spans = [
        (begin, end, record_id) for record_id, times in moments.items() for begin, end in _spans(sorted(times), until)
    ]
    for moment, asked in fewest_moments([span for span in spans if (span[2], span[0]) not in states]):
        begins = {record_id: begin for begin, _, record_id in asked}
        states.update({(record["id"], begins[record["id"]]): record for record in past.read(sorted(begins), moment)})
    found: dict[int, list[Revision]] = defaultdict(list)
    for begin, _, record_id in sorted(spans, key=lambda span: span[0]):
        found[record_id].append(Revision(begin, states.get((record_id, begin))))
    return {each: revisions for each, revisions in found.items() if any(one.record for one in revisions)}


@dataclass(frozen=True)
class PastReader:
    """Reads records as they stood, by exporting them.

    To read a row of the past, Tryton goes through the whole history of all rows if a rule says which rows the user may
    see, and for opportunities one always does. An export checks the same rule on the row alone. It shows no field that
    a form hides.
    """

    session: TrytonSession
    model: str
    fields: Sequence[str]
    links: Collection[str]

    def read(self, ids: Sequence[int], moment: pd.Timestamp) -> list[Record]:
        """The records as of a moment at which each was there; those that the user could not see are left out."""
        if len(ids) > RECORDS_AT_ONCE:
            return self.read(ids[:RECORDS_AT_ONCE], moment) + self.read(ids[RECORDS_AT_ONCE:], moment)
        try:
            return self.exported(ids, moment)
        except TrytonRefused:  # because of one of them
            half = len(ids) // 2
            return self.read(ids[:half], moment) + self.read(ids[half:], moment) if half else []

    def exported(self, ids: Sequence[int], moment: pd.Timestamp | None) -> list[Record]:
        """All of the records, as of a moment or (None) as they stand.

        Raises
        ------
        TrytonRefused
            If the user may not see one of them, or may not read one of the fields.
        """
        paths = [f"{name}/id" if name in self.links else name for name in self.fields]
        context = None if moment is None else {"_datetime": moment}
        rows = self.session.call(f"model.{self.model}.export_data", list(ids), ["id", *paths], context=context)
        empty_as_none = ([None if value == "" else value for value in row] for row in rows)
        return [dict(zip(["id", *self.fields], row, strict=True)) for row in empty_as_none]


def _spans(times: Sequence[pd.Timestamp], until: pd.Timestamp) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """From each revision to the last instant before the next one."""
    return zip(times, [*(later - JUST_BEFORE for later in times[1:]), until], strict=True)


Span = tuple[pd.Timestamp, pd.Timestamp, int]


def fewest_moments(spans: Iterable[Span]) -> Iterator[tuple[pd.Timestamp, list[Span]]]:
    """The fewest moments such that every span (both ends included) holds one, each with its spans.

    A moment never serves two spans of one record: they do not overlap.
    """
    moment: pd.Timestamp | None = None
    served: list[Span] = []
    for span in sorted(spans, key=lambda each: each[1]):
        if moment is None or span[0] > moment:
            if moment is not None:
                yield moment, served
            moment, served = span[1], []
        served.append(span)
    if moment is not None:
        yield moment, served


def field_changes(
    before: Mapping[str, str | None] | None, after: Mapping[str, str | None], *, is_birth: bool
) -> Iterator[tuple[str, str | None, str | None]]:
    """Field, old and new value of whatever differs; of a birth, its values, which had none before."""
    for field, new in after.items():
        old = before[field] if before else None
        if not before and new is not None:
            # First seen after its birth, a value is not a change: nobody knows since when it stood.
            yield field, None if is_birth else new, new
        elif before and old != new:
            yield field, old, new
