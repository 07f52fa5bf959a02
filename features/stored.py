"""Dated facts of any number of deals, laid out on disk once per data version, a range of deals at a time.

Only what owners, accounts and the company have from all deals (relations outcome and passage) is ever read whole.

    frames/000012-facts-1a2b3c4d-5e6f7a8b/   data version, hash of the code, hash of the settings
        facts.json                           what all ranges share
        state/00003.parquet                  a relation of the fourth range of deals; spells likewise

A folder is there whole or not at all; those of other data versions and of other code go when a new one comes.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import crm
import features
from crm.history import build_history
from crm.store import DealRange, deal_ranges, read_columns, read_tables
from crm.tables import CrmTables, FieldClass
from crm.versions import read_manifest
from features.bulk import bulk_loaded
from features.inputs import OF_DEALS, PARTY_SOURCES, Inputs
from features.sources import FeatureSources, build_sources

Progress = Callable[[str, float], None]

DEALS_EACH = 20_000
"""Deals of one range: some hundred MB while their facts are made."""
NO_DEALS = DealRange("", "")
SHARED = ("accounts", "owners")
SPELL = ["deal_id", "opened_at", "ended_at"]


@dataclass(frozen=True)
class StoredFacts:
    """The dated facts of one data version on disk.

    Attributes
    ----------
    tables : the data version without the rows of deals.
    ranges : number of ranges of deals.
    inputs, currencies : as in `FeatureSources`, of all deals.
    """

    folder: Path
    tables: CrmTables
    ranges: int
    inputs: Inputs
    currencies: tuple[str, ...]

    @cached_property
    def spells(self) -> pd.DataFrame:
        """deal_id, opened_at, ended_at of every time a deal was open."""
        return pd.concat([self.spells_of(number) for number in range(self.ranges)], ignore_index=True)

    def spells_of(self, number: int) -> pd.DataFrame:
        """The same of one range."""
        return self._read("spells", number).to_pandas()

    def relations_of(self, number: int) -> dict[str, pa.Table]:
        """The relations that hold the rows of deals, of one range."""
        return {name: self._read(name, number) for name in OF_DEALS}

    @cached_property
    def whole(self) -> dict[str, pa.Table]:
        """The relations that features of any deal read whole."""
        read = {name: pq.read_table(self.folder / f"{name}.parquet") for name in SHARED}
        for name in PARTY_SOURCES:
            parts = (self._read(name, number).drop_columns("deal_id") for number in range(self.ranges))
            read[name] = pa.concat_tables(list(parts), promote_options="permissive")
        return read

    def sources(self, relations: Mapping[str, pa.Table]) -> FeatureSources:
        """What features are built from, for the deals of these relations."""
        return FeatureSources({**relations, **self.whole}, self.inputs, self.currencies, self.tables)

    def _read(self, name: str, number: int) -> pa.Table:
        return pq.read_table(self.folder / name / f"{number:05d}.parquet")


def lay_out(
    workspace: Path,
    version: str | None = None,
    *,
    field_classes: Mapping[str, FieldClass] | None = None,
    deals_each: int = DEALS_EACH,
    progress: Progress = lambda step, share: None,
) -> StoredFacts:
    """The dated facts of a data version on disk, made if they are not there yet.

    Parameters
    ----------
    field_classes : those a model was trained with; default the version's own.
    deals_each : deals of one range; more need more memory.
    """
    name = read_manifest(workspace, version).data_version
    tables = _classed(read_tables(workspace, name, within=NO_DEALS), field_classes)
    frames = workspace / "frames"
    code = f"{name}-facts-{_hash_of_code()}-"
    folder = frames / f"{code}{_hash([deals_each, *sorted(map(str, tables.field_classes.items()))])}"
    with _lock(frames):
        if not folder.exists():
            with written_whole(folder) as draft:
                _write(workspace, name, draft, tables, deals_each, progress)
            for other in frames.glob("*-facts-*"):
                if not other.name.startswith(code):
                    shutil.rmtree(other, ignore_errors=True)
    return _opened(folder, tables)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` when all is written, and leaves no trace otherwise."""
    draft, before = (folder.with_name(f".{folder.name}.{what}") for what in ("draft", "before"))
    for left_by_a_killed_run in (draft, before):
        shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if folder.exists():
            os.replace(folder, before)
        os.replace(draft, folder)
    finally:
        for gone in (draft, before):
            shutil.rmtree(gone, ignore_errors=True)


def _write(workspace: Path, version: str, folder: Path, tables: CrmTables, deals_each: int, progress: Progress) -> None:
    """Range by range, every relation of its deals."""
    births = read_columns(workspace, "deals", ("deal_id", "created_at", "_first_seen_at"), version)
    bulk = bulk_loaded(births, tables.calendar.time_zone)
    del births
    ranges = deal_ranges(workspace, version, deals_each=deals_each)
    shared = _Shared()
    for number, within in enumerate(ranges):
        progress("facts", number / len(ranges))
        part = _classed(read_tables(workspace, version, within=within), tables.field_classes)
        history = build_history(part)
        sources = build_sources(part, history, bulk=bulk)
        shared.add(sources)
        spells = pa.Table.from_pandas(history.spells[SPELL], preserve_index=False)
        for name, table in {**sources.relations, "spells": spells}.items():
            if name in SHARED:
                if number == 0:
                    pq.write_table(table, folder / f"{name}.parquet")
                continue
            if name == "state":
                # The last state of a deal is the one with the greatest number, also beside other ranges.
                rows = pa.array(np.arange(len(table)) + shared.states)
                table = table.set_column(table.column_names.index("state_row"), "state_row", rows)
                shared.states += len(table)
            (folder / name).mkdir(exist_ok=True)
            pq.write_table(table, folder / name / f"{number:05d}.parquet")
    (folder / "facts.json").write_text(json.dumps({"ranges": len(ranges), **shared.to_dict()}, indent=1))


@dataclass
class _Shared:
    """What is known of all ranges once all were seen."""

    inputs: Inputs | None = None
    currencies: tuple[str, ...] = ()
    states: int = 0

    def add(self, sources: FeatureSources) -> None:
        """See one range more."""
        self.inputs = sources.inputs.recorded_also(self.inputs.since if self.inputs else {})
        self.currencies = tuple(dict.fromkeys((*self.currencies, *sources.currencies)))

    def to_dict(self) -> dict[str, object]:
        assert self.inputs is not None
        inputs = asdict(self.inputs)
        inputs["columns"] = {name: sorted(columns) for name, columns in inputs["columns"].items()}
        return {"inputs": inputs, "currencies": self.currencies}


def _opened(folder: Path, tables: CrmTables) -> StoredFacts:
    kept = json.loads((folder / "facts.json").read_text())
    columns = {name: frozenset(names) for name, names in kept["inputs"].pop("columns").items()}
    inputs = Inputs(columns=columns, **kept["inputs"])
    return StoredFacts(folder, tables, kept["ranges"], inputs, tuple(kept["currencies"]))


def _classed(tables: CrmTables, classes: Mapping[str, FieldClass] | None) -> CrmTables:
    return tables if classes is None else replace(tables, field_classes=classes)


def _hash_of_code() -> str:
    """Changes with any line of the packages that make facts: what another version of them made is not read."""
    folders = [Path(package.__file__).parent for package in (crm, features) if package.__file__]
    return _hash([path.read_text("utf-8") for folder in folders for path in sorted(folder.rglob("*.py"))])


def _hash(parts: list[object] | list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process lays facts out at a time; the others find them made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
