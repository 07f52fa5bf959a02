"""Every feature is the same on Spark as on DuckDB: on this machine and on a cluster, from Arrow and from Parquet."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_reference import COMPANIES, DEALS, MOMENTS, companies

from crm.history import build_history, snapshot_spine
from crm.tables import CrmTables
from features.build import build_sources, spine_relations
from features.catalogue import BY_NAME, CATALOGUE
from features.compiler import compile_features
from features.engines import Relation, run_on_duckdb, spark_engine
from tests.engines.spark_here import SMALL, cluster, needs_java
from tests.spec.crm_by_hand import crm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), needs_java]  # Spark takes its time over so long a statement

BARE = "one deal and nothing else"
DATA = [*COMPANIES, BARE]
MEMORY = 1024
"""MB of heap that a statement of all features takes with some to spare."""
WORKERS = 2
ON_TWO_WORKERS = {"spark.executor.cores": "1", "spark.scheduler.minRegisteredResourcesRatio": "1"}
"""Settings by which an executor runs on each worker, and the first statement waits for both."""


def tables_of(name: str) -> CrmTables:
    if name == BARE:
        return crm([{"deal_id": "d1", "created_at": "2026-01-05"}], tracked=["stage"])
    return companies()[name].tables


def spine_of(tables: CrmTables) -> pd.DataFrame:
    """Open deals at some moments, and any deals at any microsecond, before they were created and after they ended."""
    history, random = build_history(tables), np.random.default_rng(3)
    deals, until = tables.get("deals"), tables.as_of
    since = deals["created_at"].min() - pd.Timedelta(30, "D")
    weekly = snapshot_spine(history, list(pd.date_range(since, until, periods=MOMENTS).round("us")))
    seconds = (until - since).total_seconds() * random.random(4 * DEALS)
    instants = [(since + pd.Timedelta(second, "s")).round("us") for second in seconds]
    some = pd.DataFrame({"deal_id": random.choice(deals["deal_id"], len(instants)), "as_of": instants})
    weekly = weekly.sample(min(len(weekly), 2 * DEALS), random_state=1)[["deal_id", "as_of"]]
    spine = pd.concat([weekly, some], ignore_index=True)
    return spine.astype({"deal_id": "str", "as_of": "datetime64[us, UTC]"})


@cache
def asked(name: str) -> tuple[str, dict[str, pa.Table]]:
    """The statement of all features, and the relations it reads."""
    tables = tables_of(name)
    sources = build_sources(tables, build_history(tables))
    relations = {**sources.relations, **spine_relations(sources, spine_of(tables))}
    return compile_features(CATALOGUE, sources.inputs), relations


@cache
def expected(name: str) -> pa.Table:
    return run_on_duckdb(*asked(name), threads=1)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> dict[str, dict[str, list[Path]]]:
    """The relations of each company as Parquet files, two each unless there are no rows to share."""
    folder = tmp_path_factory.mktemp("relations")
    return {name: {relation: written(folder, name, relation) for relation in asked(name)[1]} for name in DATA}


def written(folder: Path, company: str, relation: str) -> list[Path]:
    rows = asked(company)[1][relation]
    half = len(rows) // 2
    parts = [rows.slice(0, half), rows.slice(half)] if half else [rows]
    place = folder / f"company {DATA.index(company)}"
    place.mkdir(exist_ok=True)
    files = [place / f"{relation}-{number}.parquet" for number in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        pq.write_table(part, file)
    return files


def on_spark(inputs: Mapping[str, Mapping[str, Relation]], **session) -> dict[str, pa.Table]:
    """The features of each company, by one session."""
    with spark_engine(**session) as run:
        return {name: run(asked(name)[0], relations) for name, relations in inputs.items()}


@pytest.fixture(scope="module", params=["local, Arrow", pytest.param("cluster, Parquet", marks=pytest.mark.soak)])
def found(request, parquet, tmp_path_factory) -> dict[str, pa.Table]:
    """The features of each company by one way of running Spark; one session at a time, as a process can have."""
    place, kind = request.param.split(", ")
    relations = parquet if kind == "Parquet" else {name: asked(name)[1] for name in DATA}
    session = SMALL | {"memory_limit": MEMORY}
    if place == "local":
        return on_spark(relations, **session)
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, workers=WORKERS) as master:
        settings = session["settings"] | ON_TWO_WORKERS
        tables = on_spark(relations, **session | {"master": master, "settings": settings})
    idle = [number for number in range(WORKERS) if not list((folder / f"worker-{number}").glob("app-*/*/stderr"))]
    assert idle == [], "a worker had nothing to do"
    return tables


@pytest.mark.parametrize("feature", [declared.name for declared in CATALOGUE])
def test_a_feature_is_the_same_on_spark(found, feature):
    for name in found:
        here, there = expected(name)[feature], found[name][feature]
        assert there.type == here.type
        if BY_NAME[feature].kind == "category":
            assert there.to_pylist() == here.to_pylist()
        else:
            assert there.is_null().equals(here.is_null()), "unknown where it is known"
            np.testing.assert_allclose(there.to_numpy(), here.to_numpy(), rtol=1e-9, atol=1e-9)


def test_rows_come_in_the_order_of_the_spine(found):
    for name in found:
        assert found[name].schema == expected(name).schema
        assert found[name]["spine_row"].to_pylist() == list(range(expected(name).num_rows))


def test_the_compared_features_are_not_constants():
    rows = pd.concat([expected(name).to_pandas() for name in COMPANIES], ignore_index=True)
    varied = [name for name in BY_NAME if rows[name].nunique() >= 2]
    assert len(varied) > 0.9 * len(CATALOGUE)
