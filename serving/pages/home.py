"""Coming in: sign-in, the first page, what the viewer chose, and the pages that say what went wrong."""

import json
from collections.abc import Callable

from fastapi import Depends, FastAPI, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from serving.given import Reader
from serving.pages.frame import choose, show
from serving.rules import OPEN


def add_home(api: FastAPI) -> None:
    """Where one lands, and what the viewer chose."""

    @api.get("/choose", include_in_schema=False, dependencies=[Depends(OPEN)])
    async def chosen(request: Request) -> Response:
        return choose(request)

    @api.get("/", include_in_schema=False)
    async def home(caller: Reader) -> Response:
        return RedirectResponse("/review" if caller.viewer is None else "/me", 303)


def or_page(answer: Callable[[Request, Exception], JSONResponse]) -> Callable[[Request, Exception], Response]:
    """The answer to a failure; who looks at a page reads it as one."""

    def answer_or_page(request: Request, failure: Exception) -> Response:
        said = answer(request, failure)
        if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/v1/"):
            return said
        error = json.loads(bytes(said.body))["error"]
        return show(request, "error.html", status=said.status_code, error=error)

    return answer_or_page
