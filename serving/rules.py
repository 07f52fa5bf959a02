"""What a route asks of whoever calls it: a rule, declared beside the route, which is why none can be forgotten.

A route takes a `Reader`, `Asker`, `Sender` or `Speaker` (`serving.given`), or has `dependencies=[Depends(OPEN)]`.
`create_api` refuses to start with a route that has no rule.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute, Match

from crm.errors import Detail
from serving.callers import Caller
from serving.errors import Unauthorized


@dataclass(frozen=True)
class Needs:
    """A rule; as a dependency of a route it gives the caller, or refuses.

    Attributes
    ----------
    scope : what the caller's key must be made for; None: the route is open to everybody.
    but_here : from this machine itself nobody need say who they are.
    """

    scope: str | None
    but_here: bool = False

    async def __call__(self, request: Request) -> Caller | None:
        """The caller, who may do what the scope covers; None where nobody need say who they are.

        Raises
        ------
        Unauthorized
            Nobody says who asks.
        Forbidden
            The caller lacks the scope.
        """
        if self.is_free_for(request):
            return None
        caller: Caller | None = request.state.caller
        if caller is None:
            raise nobody_says()
        caller.must_have(str(self.scope))
        return caller

    def is_free_for(self, request: Request) -> bool:
        """Whether nobody need say who asks."""
        return self.scope is None or (self.but_here and is_on_this_machine(request))


OPEN = Needs(None)


def nobody_says() -> Unauthorized:
    """The refusal of a request without a key."""
    return Unauthorized("A key is needed.", Detail("x-api-key", None, "a key is sent", "send x-api-key: dc_…"))


def rule_of(route: BaseRoute) -> Needs | None:
    """The rule that a route declares; None if it has none."""
    if not isinstance(route, APIRoute):
        return None
    rules = (each.call for each in route.dependant.dependencies)
    return next((rule for rule in rules if isinstance(rule, Needs)), None)


def check_rules(api: FastAPI) -> None:
    """Refuse to start with a route that does not say who may call it."""
    without = [getattr(route, "path", repr(route)) for route in api.routes if rule_of(route) is None]
    if without:
        raise RuntimeError(f"routes without a rule (serving/rules.py): {', '.join(without)}")


def rule_for(routes: Sequence[BaseRoute], request: Request) -> Needs | None:
    """The rule of the first of these routes that the request is for; None if it is for none of them."""
    return next((rule_of(each) for each in routes if each.matches(request.scope)[0] is Match.FULL), None)


def is_on_this_machine(request: Request) -> bool:
    """Whether the request comes from this machine itself, not through a proxy on it."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
