"""`dealcast features build`: the training frame of any number of deals, written to Parquet part by part."""

import resource
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

from crm.errors import DataUnusable, Detail, UsageError
from dealcast.session import Progress, Session
from dealcast.steps import moment_of
from features.catalogue import feature_set_hash
from features.engines import Engine, spark_engine
from features.frames import write_frames
from features.stored import lay_out
from training.splits import MAX_SNAPSHOTS, snapshot_moments

FACTS_SHARE = 0.4
"""Part of the work that laying out the facts is, roughly."""


def build_frames(
    session: Session,
    *,
    as_of: str | None,
    out: Path | None,
    most: int | None,
    days: int | None,
    spark: str | None,
    progress: Progress,
) -> dict[str, Any]:
    """Write the snapshots that a training at the moment looks at, with all features: the `features build` document.

    Parameters
    ----------
    out : folder for the frames; by default one of the workspace, named after data version, features and moment.
    most : about how many snapshots there may be before moments are left out; default as many as training takes.

    days : days from one moment to the next; default as training takes them: weekly, more often for short cycles.
    spark : the master of a Spark that computes the features; default DuckDB in this process.

    Raises
    ------
    UsageError : the moment is not one, or lies ahead; `out` holds something else.
    DataUnusable : no deal was open at any moment before.
    """
    started = perf_counter()
    if out is not None:
        _check_folder(out)
    facts = lay_out(session.workspace, progress=lambda step, share: progress(step, FACTS_SHARE * share))
    tables = facts.tables
    at = moment_of(tables, as_of).at
    moments = snapshot_moments(facts, tables.calendar, at, most=most or MAX_SNAPSHOTS, days=days)
    if not moments:
        detail = Detail("deals", None, "a deal was open before the moment", "Ask for a later moment.")
        raise DataUnusable("There are no snapshots to build features for.", detail)
    frames = session.workspace / "frames"
    name = f"{tables.data_version}-{feature_set_hash()}-{at:%Y%m%dT%H%M%SZ}"
    with _engine(spark) as engine:
        written = write_frames(
            facts,
            moments,
            out or frames / name,
            engine=engine,
            progress=lambda step, share: progress(step, FACTS_SHARE + (1 - FACTS_SHARE) * share),
        )
    for other in frames.glob("*-*-*"):
        if not other.name.startswith(f"{tables.data_version}-"):
            shutil.rmtree(other, ignore_errors=True)
    return {
        "as_of": at,
        "data_version": tables.data_version,
        "feature_set_hash": feature_set_hash(),
        "snapshots": sum(written.rows),
        "moments": len(moments),
        "deals": written.deals,
        "features": len(written.features),
        "files": [path.name for path in written.paths],
        "out": written.folder,
        "seconds": round(perf_counter() - started, 2),
        # Linux counts in KiB.
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _engine(spark: str | None) -> AbstractContextManager[Engine | None]:
    return nullcontext() if spark is None else spark_engine(master=spark)


def _check_folder(out: Path) -> None:
    """Frames replace a folder as a whole: only one that is empty, or that frames were written to before."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "frames.json").exists())):
        rule = "a folder that is not there yet, is empty, or holds frames written before: it is replaced"
        raise UsageError(f"{out} holds something else.", Detail("--out", str(out), rule, "Name another folder."))
