"""Features of any number of deals at many moments, out of core: one Parquet file after another, never all in memory.

What parties with few keys (owners, segments, the company) have had by each moment is worked out once and handed to
every part; of accounts, who are nearly as many as deals, each part asks only for its own.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crm.facts import microseconds
from crm.history import snapshot_spine
from features.build import build_from_sources, chosen_features, party_levels
from features.engines import Engine
from features.inputs import OF_DEALS
from features.parties import PARTIES
from features.stored import StoredFacts, written_whole

Progress = Callable[[str, float], None]

SNAPSHOTS_AT_ONCE = 250_000
"""Rows of one part: with all features and what it takes to build them, well under two GB."""
MANY_KEYS = frozenset({"account"})
"""Parties of whom there are nearly as many as deals."""


@dataclass(frozen=True)
class Frames:
    """Frames on disk: `folder`, its Parquet files with the rows of each, how many deals, and the features."""

    folder: Path
    paths: tuple[Path, ...]
    rows: tuple[int, ...]
    deals: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """Snapshots to be built together, and the rows of their deals."""

    spine: pd.DataFrame
    relations: dict[str, pa.Table]


def write_frames(
    facts: StoredFacts,
    moments: Sequence[pd.Timestamp],
    folder: Path,
    *,
    names: Iterable[str] | None = None,
    most_at_once: int = SNAPSHOTS_AT_ONCE,
    engine: Engine | None = None,
    threads: int | None = None,
    progress: Progress = lambda step, share: None,
) -> Frames:
    """The features of all deals open at the moments as Parquet files in a folder, which is replaced as a whole.

    Returns
    -------
    Frames; `frames.json` in the folder says the same.
    """
    features = tuple(declared.name for declared in chosen_features(facts.sources({}), names))
    rows: list[int] = []
    deals = 0
    total = count_snapshots(facts, moments)
    with written_whole(folder) as draft:
        for number, frame in enumerate(
            each_frame(facts, moments, names=names, most_at_once=most_at_once, engine=engine, threads=threads)
        ):
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), draft / part_name(number))
            rows.append(len(frame))
            deals += frame["deal_id"].nunique()  # a deal is in one part
            progress("features", sum(rows) / total)
        (draft / "frames.json").write_text(json.dumps({"rows": rows, "deals": deals, "features": features}, indent=1))
    paths = tuple(folder / part_name(number) for number in range(len(rows)))
    return Frames(folder, paths, tuple(rows), deals, features)


def part_name(number: int) -> str:
    """The file of the n-th part, from 0."""
    return f"part-{number:05d}.parquet"


def each_frame(
    facts: StoredFacts,
    moments: Sequence[pd.Timestamp],
    *,
    names: Iterable[str] | None = None,
    most_at_once: int = SNAPSHOTS_AT_ONCE,
    engine: Engine | None = None,
    threads: int | None = None,
) -> Iterator[pd.DataFrame]:
    """The features of all deals open at the moments, part by part: what `build_features` gives for those deals.

    A deal's snapshots are in one part. Parts follow the order of deal ids; in a part rows are by moment, then by deal.
    """
    names = None if names is None else list(names)
    levels = None
    for part in _parts(facts, moments, most_at_once):
        if levels is None:
            few = [party for party in PARTIES if party not in MANY_KEYS]
            levels = party_levels(facts.sources({}), moments, parties=few, names=names, engine=engine, threads=threads)
        given = _levels_at(levels, part.spine["as_of"])
        sources = facts.sources(part.relations)
        yield build_from_sources(sources, part.spine, names=names, levels=given, engine=engine, threads=threads)


def count_snapshots(facts: StoredFacts, moments: Sequence[pd.Timestamp]) -> int:
    """How many deals were open at each of the moments, together."""
    at = microseconds(pd.Series(list(moments), dtype="datetime64[us, UTC]"))
    opened, ended = (np.sort(microseconds(facts.spells[name])) for name in ("opened_at", "ended_at"))
    return int((np.searchsorted(opened, at, side="right") - np.searchsorted(ended, at, side="right")).sum())


def _parts(facts: StoredFacts, moments: Sequence[pd.Timestamp], most: int) -> Iterator[_Part]:
    """Ranges of deals put together, or cut between deals, to about so many snapshots."""
    waiting: list[_Part] = []
    for number in range(facts.ranges):
        spells = _Spells(facts.spells_of(number))
        spine = snapshot_spine(spells, moments)
        if spine.empty:
            continue
        if waiting and sum(len(part.spine) for part in waiting) + len(spine) > most:
            yield _together(waiting)
            waiting = []
        relations = facts.relations_of(number)
        cut = _cut(spine, most)
        parts = [_Part(piece, _of_deals(relations, piece["deal_id"])) for piece in cut]
        yield from parts[:-1]
        waiting.append(parts[-1])
    if waiting:
        yield _together(waiting)


@dataclass(frozen=True)
class _Spells:
    spells: pd.DataFrame


def _cut(spine: pd.DataFrame, most: int) -> list[pd.DataFrame]:
    """Pieces of at most so many snapshots, each deal in one piece (a single deal with more is a piece of its own)."""
    if len(spine) <= most:
        return [spine]
    deal, ids = pd.factorize(spine["deal_id"], sort=True)
    piece_of = (np.cumsum(np.bincount(deal, minlength=len(ids))) - 1) // most
    pieces = pd.Series(piece_of[deal], index=spine.index)
    return [piece.reset_index(drop=True) for _, piece in spine.groupby(pieces)]


def _of_deals(relations: Mapping[str, pa.Table], deals: pd.Series) -> dict[str, pa.Table]:
    """The rows of these deals alone."""
    wanted = pa.array(deals.unique(), pa.large_string())
    return {
        name: table.filter(pc.is_in(table["deal_id"].cast(pa.large_string()), value_set=wanted))
        for name, table in relations.items()
    }


def _together(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    relations = {
        name: pa.concat_tables([part.relations[name] for part in parts], promote_options="permissive")
        for name in OF_DEALS
    }
    spine = pd.concat([part.spine for part in parts], ignore_index=True)
    return _Part(spine.sort_values("as_of", kind="stable", ignore_index=True), relations)


def _levels_at(levels: Mapping[str, pa.Table], moments: pd.Series) -> dict[str, pa.Table]:
    """The levels at the moments of one part: joining all the others to it would take longer than leaving them out."""
    at = pd.Series(moments.unique()).astype("datetime64[us, UTC]")
    wanted = pa.array(microseconds(at) / 1e6)
    return {party: level.filter(pc.is_in(level["moment"], value_set=wanted)) for party, level in levels.items()}
