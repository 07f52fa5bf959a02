"""Who hears what a CRM tells of its changes, in dealcast's place."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from threaded_server import answering


class Listener:
    """Hears what dealcast would; answers as it does, or as it is told to.

    Attributes
    ----------
    heard : events in the order in which they came, repeated ones included.
    refuses : ids that are refused.
    statuses : answers to the next calls, which are not heard; answered : those given so far.
    """

    def __init__(self, port: int, statuses: Iterable[int] = ()) -> None:
        self.heard: list[dict] = []
        self.refuses: set[str] = set()
        self.statuses = iter(statuses)
        self.answered: list[int] = []
        self.keys: set[str] = set()
        self.is_mute = False
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                events = json.loads(self.rfile.read(int(self.headers["content-length"])))["events"]
                listener.keys.add(self.headers["x-api-key"])
                status = next(listener.statuses, 202)
                if status != 202:
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    listener.answered.append(status)
                    return
                listener.heard += events
                if listener.is_mute:  # it was taken, and nobody is told
                    listener.is_mute = False
                    self.close_connection = True
                    return
                rule = [{"where": "row.stage", "value": "x", "rule": "a stage", "next_step": "add it"}]
                results = [
                    {"event_id": each["event_id"], "status": "refused", "details": rule}
                    if each["event_id"] in listener.refuses
                    else {"event_id": each["event_id"], "status": "accepted", "details": []}
                    for each in events
                ]
                body = json.dumps({"results": results}).encode()
                self.send_response(202)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def told(self) -> dict[str, dict]:
        """The events by id; what came twice must say the same."""
        told: dict[str, dict] = {}
        for event in list(self.heard):
            assert told.setdefault(event["event_id"], event) == event
        return told

    def changes(self, deal_id: int) -> list[tuple]:
        """Field, old and new value of what was told of a deal's history."""
        rows = [event["row"] for event in self.told().values() if event["table"] == "deal_history"]
        return [(r["field"], r["old_value"], r["new_value"]) for r in rows if r["deal_id"] == str(deal_id)]


@contextmanager
def listening(port: int, statuses: Iterable[int] = ()) -> Iterator[Listener]:
    """A listener until the block ends; `statuses` are its answers to the first calls."""
    listener = Listener(port, statuses)
    with answering(listener.server):
        yield listener


class Everything:
    """A set that holds whatever is asked for."""

    def __contains__(self, _thing: object) -> bool:
        return True
