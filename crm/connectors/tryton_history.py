"""A Tryton table's past: its states at every revision, read with as few calls as possible, and the changes between.

Tryton keeps a copy of the whole row at every write, and reads any set of rows as they stood at one moment (context
`_datetime`). A revision holds until the next one of its row, so one moment can serve revisions of many rows: the
moments asked for are the fewest such that each of these spans holds one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from crm.connectors.tryton_rpc import Record, TrytonSession

JUST_BEFORE = pd.Timedelta(1, "us")


@dataclass(frozen=True)
class Revision:
    """A record as it stood from a moment on; `record` is None from its deletion on."""

    at: pd.Timestamp
    record: Record | None


def read_revisions(
    session: TrytonSession,
    model: str,
    ids: Sequence[int],
    fields: Sequence[str],
    *,
    until: pd.Timestamp,
) -> dict[int, list[Revision]]:
    """What became of records up to a moment, it included, in order of time.

    Returns
    -------
    Revisions by id; ids without any, or never visible to the user, have no entry.
    """
    moments: dict[int, set[pd.Timestamp]] = defaultdict(set)
    for at, record_id, _user in session.call(f"model.{model}.history_revisions", list(ids)):
        if at <= until:
            moments[record_id].add(at)
    spans = [
        (begin, end, record_id) for record_id, times in moments.items() for begin, end in _spans(sorted(times), until)
    ]
    states: dict[tuple[int, pd.Timestamp], Record] = {}
    for moment, asked in fewest_moments(spans):
        begins = {record_id: begin for begin, _, record_id in asked}
        which = [["id", "in", sorted(begins)]]
        method = f"model.{model}.search_read"
        page = session.call(method, which, 0, None, None, list(fields), context={"_datetime": moment})
        states.update({(record["id"], begins[record["id"]]): record for record in page})
    found: dict[int, list[Revision]] = defaultdict(list)
    for begin, _, record_id in sorted(spans, key=lambda span: span[0]):
        found[record_id].append(Revision(begin, states.get((record_id, begin))))
    return {each: revisions for each, revisions in found.items() if any(one.record for one in revisions)}


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
