"""Features of single deals at one moment, for a service: planned once, and what owners and accounts did counted once.

The same statement as `build_features`, for the deals asked for: their rows are found by an index, so that a call costs
what a deal costs, not what the company does.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from features.build import chosen_features, party_levels, spine_relations, to_frame
from features.compiler import compile_features
from features.engines.kept import KeptStatement
from features.inputs import OF_DEALS
from features.sources import FeatureSources


class LiveFeatures:
    """The features of deals of one data version at one moment.

    Parameters
    ----------
    sources : the dated facts.
    moment : the as-of moment.
    names : features wanted; default all that the data allow.
    """

    def __init__(self, sources: FeatureSources, moment: pd.Timestamp, *, names: Iterable[str] | None = None) -> None:
        self._features = chosen_features(sources, None if names is None else list(names))
        self._moment = moment
        levels = party_levels(sources, [moment], names=[declared.name for declared in self._features])
        given = {f"{party}_level": level for party, level in levels.items()}
        nothing = pd.DataFrame({"deal_id": pd.Series([""], dtype="str"), "as_of": [moment]})
        self._spine = spine_relations(sources, nothing)
        statement = compile_features(self._features, sources.inputs, given=levels)
        relations = {**sources.relations, **given, **self._spine}
        self._kept = KeptStatement(statement, relations, changing=("spine", *OF_DEALS))
        self._rows = {name: _RowsOfDeals(sources.relations[name]) for name in OF_DEALS}

    def of(self, deal_ids: Sequence[str]) -> pd.DataFrame:
        """Features of the deals, in their order: as `build_features` gives them for the moment.

        A deal that the data do not know has only what everybody has.
        """
        template = self._spine["spine"]
        spine = template.take(pa.array(np.zeros(len(deal_ids), dtype=np.int64)))
        for name, values in (("deal_id", list(deal_ids)), ("spine_row", range(len(deal_ids)))):
            place = template.schema.get_field_index(name)
            spine = spine.set_column(place, name, pa.array(values, type=template.schema.field(name).type))
        rows = {name: rows.of(deal_ids) for name, rows in self._rows.items()}
        asked = pd.DataFrame({"deal_id": pd.Series(list(deal_ids), dtype="str"), "as_of": self._moment})
        return to_frame(self._kept.run({"spine": spine, **rows}), asked, self._features)

    def close(self) -> None:
        """Give the memory back."""
        self._kept.close()


class _RowsOfDeals:
    """A relation that finds the rows of a deal without looking at the others."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.combine_chunks()
        self._deals = pd.Index(self._rows["deal_id"].to_pandas().unique())
        codes = self._deals.get_indexer(self._rows["deal_id"].to_pandas())
        self._order = np.argsort(codes, kind="stable")
        self._starts = np.searchsorted(codes[self._order], np.arange(len(self._deals) + 1))

    def of(self, deal_ids: Sequence[str]) -> pa.Table:
        found = self._deals.get_indexer(pd.Index(deal_ids).unique())
        places = [self._order[self._starts[code] : self._starts[code + 1]] for code in found if code >= 0]
        return self._rows.take(np.concatenate(places) if places else np.zeros(0, dtype=np.int64))
