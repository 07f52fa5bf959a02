"""A loopback proxy in front of a real server that stumbles when told to: busy, half a page, a line that breaks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from threaded_server import answering

Stumble = Callable[[int, bytes], str | None]
"""Says what happens to request number so and so, of this path and body: None lets it pass; see `stumbles`."""

OF_THE_LINE = ("connection", "content-length", "host", "keep-alive", "transfer-encoding")
"""Headers that each line has of its own."""


class StumblingProxy:
    """Passes everything on to the server behind it, but for what `plan` says.

    Attributes
    ----------
    stumbles : what happened, in order: `429`, `503`, `401` (the server never saw the request), `half` (half of its
        answer), `mute` (the server did the work, its answer was lost), `cut` (neither), `again` (what the request
        before got: a page comes twice).
    """

    def __init__(self, behind: str) -> None:
        self.behind = httpx.Client(base_url=behind, timeout=60)
        self.plan: Stumble = lambda number, body: None
        self.requests = 0
        self.stumbles: list[str] = []
        self._lock = threading.Lock()
        self._before = b""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                with proxy._lock:
                    proxy.requests += 1
                    what = proxy.plan(proxy.requests, self.path.encode() + b" " + body)
                    proxy.stumbles += [what] if what else []
                if what in ("429", "503", "401"):
                    self.send_response(int(what))
                    self.send_header("retry-after", "0")
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                if what == "cut":
                    return self.hang_up()
                body = proxy._before if what == "again" else body
                proxy._before = body
                headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_THE_LINE}
                with proxy.behind.stream(self.command, self.path, content=body, headers=headers) as answer:
                    page = b"".join(answer.iter_raw())
                if what == "mute":
                    return self.hang_up()
                self.send_response_only(answer.status_code)
                for name, value in answer.headers.items():
                    if name not in OF_THE_LINE:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page[: len(page) // 2] if what == "half" else page)
                if what == "half":
                    self.hang_up()

            do_GET = do_POST = do_PATCH = do

            def hang_up(self) -> None:
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def stumbling_proxy(behind: str) -> Iterator[StumblingProxy]:
    """A proxy on a free port, until the block ends."""
    proxy = StumblingProxy(behind)
    try:
        with answering(proxy.server):
            yield proxy
    finally:
        proxy.behind.close()
