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
    by_link : an address with a token opens it, too: the route itself looks at that.
    """

    scope: str | None
    but_here: bool = False
    by_link: bool = False

    @property
    def opens_without_key(self) -> bool:
        """Whether anybody comes in without a key."""
        return self.scope is None or self.but_here or self.by_link

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
        if self.by_link:
            return "token" in request.query_params
        return self.scope is None or (self.but_here and is_on_this_machine(request))


OPEN = Needs(None)


def nobody_says() -> Unauthorized:
    """The refusal of a request without a key."""
    return Unauthorized("A key is needed.", Detail("x-api-key", None, "a key is sent", "send x-api-key: dc_…"))


def rule_of(route: BaseRoute) -> Needs | None:
    """The rule that a route declares; None if it has none."""
    return next(iter(rules_of(route)), None)


def rules_of(route: BaseRoute) -> list[Needs]:
    """Everything that a route asks of its caller."""
    if not isinstance(route, APIRoute):
        return []
    return [each.call for each in route.dependant.dependencies if isinstance(each.call, Needs)]


def check_rules(api: FastAPI) -> None:
    """Refuse to start with a route that does not say who may call it."""
    without = [getattr(route, "path", repr(route)) for route in api.routes if rule_of(route) is None]
    if without:
        raise RuntimeError(f"routes without a rule (serving/rules.py): {', '.join(without)}")


def describe_keys(api: FastAPI) -> None:
    """Have the OpenAPI description say how callers prove who they are, and the scope that each route needs."""
    described = api.openapi()
    described["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or the identity provider's token"},
    }
    for route in api.routes:
        rule = rule_of(route)
        if isinstance(route, APIRoute) and route.include_in_schema and rule is not None and rule.scope is not None:
            for method in route.methods or ():
                operation = described["paths"][route.path_format][method.lower()]
                operation["security"] = [{"key": []}, {"bearer": []}]
                operation["x-scope"] = rule.scope
                for status, told in operation["responses"].items():
                    if int(status) >= 400:  # whatever a route answers when all is well, failures are documents
                        told["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}


def rule_for(routes: Sequence[BaseRoute], request: Request) -> Needs | None:
    """The rule of the first of these routes that the request is for; None if it is for none of them."""
    return next((rule_of(each) for each in routes if each.matches(request.scope)[0] is Match.FULL), None)


def address_of(request: Request) -> str:
    """The network address that a request comes from."""
    return "(unknown)" if request.client is None else request.client.host


def is_on_this_machine(request: Request) -> bool:
    """Whether the request comes from this machine itself, not through a proxy on it."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
