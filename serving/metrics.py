"""What operators watch, in Prometheus' words; one answer for all workers of a server."""

import os

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
request_seconds = Histogram("dealcast_request_seconds", "Seconds until a request was answered.", ["route"])
requests_in_flight = Gauge(
    "dealcast_requests_in_flight", "Requests that are worked on, by kind.", ["kind"], multiprocess_mode="livesum"
)
requests_refused = Counter(
    "dealcast_requests_refused", "Requests without a place, or without an answer in time.", ["kind", "why"]
)
database_answers = Gauge(
    "dealcast_database_answers", "1 where the ledger's database took what was to be written.", multiprocess_mode="min"
)
open_deals = Gauge("dealcast_open_deals", "Open deals that are scored.", multiprocess_mode="mostrecent")
data_moment = Gauge("dealcast_data_as_of_seconds", "The data's moment, Unix time.", multiprocess_mode="mostrecent")
stale = Gauge("dealcast_stale", "1 where newer data or a newer champion could not be loaded.", multiprocess_mode="max")

events_total = Counter("dealcast_events", "Events answered.", ["status"])
events_waiting = Gauge(
    "dealcast_events_waiting", "Accepted events that are not in the data yet.", multiprocess_mode="mostrecent"
)
events_waiting_seconds = Gauge(
    "dealcast_events_waiting_seconds", "Seconds that the first of them has waited.", multiprocess_mode="mostrecent"
)
events_set_aside = Counter("dealcast_events_set_aside", "Accepted events that the tables cannot be made with.")

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """All metrics as text."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
