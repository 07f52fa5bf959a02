"""A loopback server for tests: it stands in for a CRM that cannot run here and says so in its name."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from threaded_server import answering


@dataclass
class Asked:
    """A request: its path without the query, the query's words, the headers, and the body as it came."""

    method: str
    path: str
    words: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Told:
    """An answer: a JSON document, or text."""

    document: Any = None
    status: int = 200
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class StandIn:
    """Answers what `answer` says, one request at a time; what it was not made for is in `unforeseen`.

    Attributes
    ----------
    clock_ahead : seconds by which its clock is ahead of ours.
    without_fields : fields of deals that it has not got, or no more.
    """

    def __init__(self) -> None:
        self.clock_ahead = 0.0
        self.without_fields: set[str] = set()
        self.url = ""
        self.asked: list[Asked] = []
        self.unforeseen: list[str] = []
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Told:
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        """Serve on a free port until the block ends."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                where = urlsplit(self.path)
                words = {name: ",".join(values) for name, values in parse_qs(where.query).items()}
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, where.path, words, headers, body)
                with stand_in._lock:
                    stand_in.asked.append(asked)
                    try:
                        told = stand_in.answer(asked)
                    except (AssertionError, KeyError) as unforeseen:
                        stand_in.unforeseen.append(f"{asked.method} {self.path}: {unforeseen!r}")
                        told = Told({"message": "the stand-in does not know this"}, 500)
                page = (told.text if told.text is not None else json.dumps(told.document)).encode()
                self.send_response(told.status)
                kind = "text/csv" if told.text is not None else "application/json"
                for name, value in {"content-type": kind, **told.headers, "content-length": str(len(page))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(page)

            do_GET = do_POST = do_PATCH = do_PUT = do

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + stand_in.clock_ahead)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        with answering(server):
            yield self
        assert not self.unforeseen, self.unforeseen[0]
