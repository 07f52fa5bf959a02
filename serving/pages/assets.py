"""The files that pages load: our style and scripts, and the libraries that `make install` fetches from npm.

A file's address holds its content's hash, so a browser keeps it for good. Without the libraries pages still tell
everything: tables stand for charts, links and forms for what htmx would load in place.
"""

import gzip
import hashlib
from functools import cache
from pathlib import Path

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import nobody_sees
from serving.rules import OPEN

STATIC = Path(__file__).with_name("static")
LIBRARIES = ("vendor/htmx.min.js", "vendor/echarts.common.min.js")
"""What comes from npm; not in the repository, but in every wheel."""
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_GOOD = "public, max-age=31536000, immutable"
SMALLEST_COMPRESSED = 1000


@cache
def content(name: str) -> tuple[bytes, bytes, str]:
    """A file as it is, compressed, and the beginning of its hash.

    Raises
    ------
    NotFound
        There is no such file.
    """
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in KINDS}
    if name not in files:
        raise nobody_sees("file", name)
    plain = files[name].read_bytes()
    return plain, gzip.compress(plain, 9, mtime=0), hashlib.sha256(plain).hexdigest()[:12]


def address(name: str) -> str:
    """Where a page loads a file from."""
    return f"/static/{name}?v={content(name)[2]}"


def libraries_missing() -> list[str]:
    """The libraries from npm that are not here."""
    return [name for name in LIBRARIES if not (STATIC / name).is_file()]


def answer_file(request: Request, name: str) -> Response:
    """A file, to be kept for good."""
    plain, packed, _ = content(name)
    kind = KINDS[Path(name).suffix] + "; charset=utf-8"
    return answer_compressed(request, plain, kind, packed=packed, headers={"cache-control": FOR_GOOD})


def answer_compressed(
    request: Request,
    plain: bytes,
    media_type: str,
    *,
    packed: bytes | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """A body, compressed where the browser takes it and it is worth it."""
    headers = {**(headers or {}), "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", "") and len(plain) >= SMALLEST_COMPRESSED:
        body = packed or gzip.compress(plain, 5, mtime=0)
        return Response(body, status, {**headers, "content-encoding": "gzip"}, media_type)
    return Response(plain, status, headers, media_type)


def add_assets(api: FastAPI) -> None:
    """The files that pages load; they hold no data and need no key."""

    @api.get("/static/{name:path}", include_in_schema=False, dependencies=[Depends(OPEN)])
    def static(name: str, request: Request) -> Response:
        return answer_file(request, name)
