"""Every failure of the service as the contract's error document, with its status."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from crm.errors import DealcastError, Detail, NoModel, NotFound, UsageError
from ledger.errors import LedgerError, LedgerUnavailable, Trouble
from serving import metrics

STATUS = {
    "invalid": 422,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "rate_limited": 429,
    "unavailable": 503,
}
CODES = {status: code for code, status in STATUS.items()}
DATABASE_GONE = "The service's database does not answer."
SHOWN = 80
"""Characters of a refused value that an answer repeats."""

log = logging.getLogger("dealcast")


class Unauthorized(DealcastError):
    """No key, or none that opens anything now."""

    code: ClassVar[str] = "unauthorized"


class Forbidden(DealcastError):
    """The key is good, but not for this."""

    code: ClassVar[str] = "forbidden"


class TooLarge(DealcastError):
    """More was asked for at once than one call may ask."""

    code: ClassVar[str] = "too_large"


class RateLimited(DealcastError):
    """Asked, or failed, too often; `retry_after` is how many seconds to wait."""

    code: ClassVar[str] = "rate_limited"
    retry_after: int = 1


def error_answer(
    code: str,
    message: str,
    details: tuple[Detail | Trouble, ...] = (),
    *,
    status: int | None = None,
    headers: Any = None,
) -> JSONResponse:
    """One failure as the contract writes it."""
    found = [{name: writable(text) for name, text in detail.to_dict().items()} for detail in details]
    metrics.errors_total.labels(code).inc()
    document = {"error": {"code": code, "message": writable(message), "details": found}}
    return JSONResponse(document, status or STATUS[code], headers=headers)


def writable(text: str | None) -> str | None:
    """Text as UTF-8 can say it: half of a surrogate pair, which JSON lets through, becomes a question mark."""
    return text and text.encode("utf-8", "replace").decode("utf-8")


def answer_explained(request: Request, failure: Exception) -> JSONResponse:
    """A failure of ours, which says itself what is wrong."""
    assert isinstance(failure, DealcastError | LedgerError)
    if isinstance(
        failure, LedgerUnavailable
    ):  # where the database is, and as whom we speak to it, is nobody's business
        log.warning("request %s: %s", getattr(request.state, "request_id", None), failure.message)
        detail = Detail("database", None, "only what was accepted is kept for good", "ask again later")
        return error_answer("unavailable", DATABASE_GONE, (detail,), headers={"Retry-After": "5"})
    headers = {"unauthorized": {"WWW-Authenticate": "Bearer"}, "unavailable": {"Retry-After": "5"}}.get(failure.code)
    if isinstance(failure, RateLimited):
        headers = {"Retry-After": str(failure.retry_after)}
    return error_answer(failure.code, failure.message, failure.details, headers=headers)


def answer_http(request: Request, failure: Exception) -> JSONResponse:
    """A failure that the framework found: no such route, the wrong method, a body too large."""
    assert isinstance(failure, HTTPException)
    code = CODES.get(failure.status_code, "invalid")
    if failure.status_code == 400:  # the framework's word for a body that is no text; the contract's is 422
        rule = "the body is one JSON document, in UTF-8"
        return error_answer("invalid", "The body cannot be read.", (Detail("body", None, rule, "correct the JSON"),))
    if failure.status_code == 404:
        failure = HTTPException(404, f"{request.url.path} does not exist.")
    elif failure.status_code == 405:
        failure = HTTPException(405, f"{request.url.path} does not take {request.method}.", failure.headers)
    return error_answer(code, failure.detail, status=failure.status_code, headers=failure.headers)


def answer_invalid(request: Request, failure: Exception) -> JSONResponse:
    """A body that breaks the contract: each place with the value and the rule."""
    assert isinstance(failure, RequestValidationError)
    details = tuple(detail_of(error) for error in failure.errors())
    return error_answer("invalid", "The request is not as the contract says.", details)


def detail_of(error: Any) -> Detail:
    """One finding of pydantic as ours: `deal_ids[3]`, the value, the rule, the next step."""
    places = [place for place in error["loc"] if place not in ("body", "query", "path")]
    if error["type"] == "json_invalid":
        rule = f"the body is one JSON document ({error['ctx']['error']} at character {places[0]})"
        return Detail("body", None, rule, "correct the JSON")
    where = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).lstrip(".") or "body"
    missing = error["type"] == "missing"
    value = None if missing or error["input"] is None else str(error["input"])[:SHOWN]
    next_step = {"missing": "add it", "extra_forbidden": "remove it"}.get(error["type"], "correct the value")
    return Detail(where, value, error["msg"], next_step)


def answer_bug(request: Request, failure: Exception) -> JSONResponse:
    """A bug of ours: the traceback goes to our log, the number of the request to the caller."""
    request_id = getattr(request.state, "request_id", None)
    log.error("request %s failed", request_id, exc_info=failure)
    return error_answer("internal", f"This is a bug: request {request_id} is in the service's log.", status=500)


@contextmanager
def asked_in(where: str, moment: str) -> Iterator[None]:
    """No model for a moment that the caller names is the caller's to mend (422); for the data's own it is ours (503).

    Parameters
    ----------
    where, moment : the field, and what stands in it.

    Raises
    ------
    UsageError
        No model may speak for the moment.
    """
    try:
        yield
    except NoModel as failure:
        details = (Detail(where, moment[:SHOWN], each.rule, each.next_step) for each in failure.details)
        raise UsageError(failure.message, *details) from None


def nobody_sees(kind: str, name: str, *, where: str | None = None) -> NotFound:
    """What does not exist and what one may not see are answered alike."""
    rule = f"a {kind} that exists, and that the key may see"
    details = (Detail(where, name[:SHOWN], rule, "correct it, or use another key"),) if where else ()
    return NotFound(f"There is no {kind} {name[:SHOWN]}.", *details)


def too_many(what: str, count: int, most: int) -> TooLarge:
    """More at once than one call may bring."""
    detail = Detail(what, str(count), f"at most {most} in a call", "send several calls")
    return TooLarge(f"{count} {what} are too many for one call.", detail)
