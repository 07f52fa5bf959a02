"""What operators watch, in Prometheus' words; one answer for all workers of a server."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

requests_total = Counter("dealcast_requests", "Requests answered.", ["route", "method", "status"])
request_seconds = Histogram(
    "dealcast_request_seconds",
    "Seconds until a request was answered.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
errors_total = Counter("dealcast_errors", "Failures told to callers, by the code of the error document.", ["code"])
requests_in_flight = Gauge(
    "dealcast_requests_in_flight", "Requests that are worked on, by kind.", ["kind"], multiprocess_mode="livesum"
)
requests_refused = Counter(
    "dealcast_requests_refused", "Requests without a place, or without an answer in time.", ["kind", "why"]
)
database_answers = Gauge(
    "dealcast_database_answers",
    "1 where the ledger's database answers.",
    multiprocess_mode="livemin",
)
open_deals = Gauge("dealcast_open_deals", "Open deals that are scored.", multiprocess_mode="mostrecent")
open_deals_by_chance = Gauge(
    "dealcast_open_deals_by_win_probability",
    "Open deals with a win probability up to this one, and above the one before.",
    ["up_to"],
    multiprocess_mode="mostrecent",
)
scored_at = Gauge("dealcast_scored_at_seconds", "When all scores were made, Unix time.", multiprocess_mode="livemin")
load_seconds = Histogram(
    "dealcast_load_seconds",
    "Seconds until new data or a new champion were loaded and all open deals scored.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
data_moment = Gauge("dealcast_data_as_of_seconds", "The data's moment, Unix time.", multiprocess_mode="mostrecent")
stale = Gauge("dealcast_stale", "1 where newer data or a newer champion is not shown yet.", multiprocess_mode="livemax")

events_total = Counter("dealcast_events", "Events answered.", ["status"])
events_waiting = Gauge(
    "dealcast_events_waiting", "Accepted events that are not in the data yet.", multiprocess_mode="mostrecent"
)
events_waiting_seconds = Gauge(
    "dealcast_events_waiting_seconds", "Seconds that the first of them has waited.", multiprocess_mode="mostrecent"
)
events_set_aside = Counter("dealcast_events_set_aside", "Accepted events that the tables cannot be made with.")

CONTENT_TYPE = CONTENT_TYPE_LATEST
PARTS = 10
"""So many groups of equal width the win probabilities are counted in."""


@lru_cache(maxsize=1000)
def counters_of(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """Where requests of a route with one outcome are counted: finding it by its labels takes longer than counting."""
    return requests_total.labels(route, method, str(status)), request_seconds.labels(route)


def tell_request(route: str, method: str, status: int, seconds: float) -> None:
    """A request was answered."""
    count, took = counters_of(route, method, status)
    count.inc()
    took.observe(seconds)


def tell_scores(win_probability: pd.Series) -> None:
    """How many open deals there are, how likely they are won, and that they were scored just now."""
    part = np.ceil(win_probability * PARTS).clip(lower=1)
    open_deals.set(len(win_probability))
    for each in range(1, PARTS + 1):
        open_deals_by_chance.labels(f"{each / PARTS:.1f}").set(int((part == each).sum()))
    scored_at.set_to_current_time()


def forget_the_gone() -> None:
    """Take what workers that ended left behind out of what is told of now."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(folder).glob("gauge_live*.db") if folder else ():
        pid = int(file.stem.rsplit("_", 1)[1])
        if not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(pid, folder)


def exposition() -> bytes:
    """All metrics as text."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
