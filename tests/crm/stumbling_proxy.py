"""A loopback proxy in front of a real server that stumbles when told to: busy, half a page, a line that breaks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Stumble = Callable[[int, bytes], str | None]
"""Says what happens to request number so and so: None lets it pass; see `StumblingProxy.stumbles`."""


class StumblingProxy:
    """Passes everything on to the server behind it, but for what `plan` says.

    Attributes
    ----------
    stumbles : what happened, in order: `429`, `503` (the server never saw the request), `half` (half of its answer),
        `mute` (the server did the work, its answer was lost), `cut` (neither).
    """

    def __init__(self, behind: str) -> None:
        self.behind = httpx.Client(base_url=behind, timeout=60)
        self.plan: Stumble = lambda number, body: None
        self.requests = 0
        self.stumbles: list[str] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with proxy._lock:
                    proxy.requests += 1
                    what = proxy.plan(proxy.requests, body)
                    proxy.stumbles += [what] if what else []
                if what in ("429", "503"):
                    self.send_response(int(what))
                    self.send_header("retry-after", "0")
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                if what == "cut":
                    return self.hang_up()
                kept = ("content-type", "authorization", "accept-encoding")
                headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
                with proxy.behind.stream("POST", self.path, content=body, headers=headers) as answer:
                    page = b"".join(answer.iter_raw())
                if what == "mute":
                    return self.hang_up()
                self.send_response_only(answer.status_code)
                for name in ("content-type", "content-encoding", "date"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page[: len(page) // 2] if what == "half" else page)
                if what == "half":
                    self.hang_up()

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
    thread = threading.Thread(target=proxy.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
        proxy.behind.close()
