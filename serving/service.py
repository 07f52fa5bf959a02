"""The BentoML service, and how it is started. The only module that knows BentoML."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

os.environ["BENTOML_DO_NOT_TRACK"] = "True"  # before BentoML is imported: nobody calls home

import bentoml
import pandas as pd
from starlette.types import ASGIApp, Receive, Scope, Send

from crm.errors import Detail, UsageError
from ledger.database import absolute_url
from ledger.ledger import open_ledger
from serving.access import ACCESS, LOOPBACK, Access
from serving.api import create_api
from serving.sign_in import link_for

WORKSPACE = "DEALCAST_WORKSPACE"
LEDGER_URL = "DEALCAST_LEDGER_URL"
SUPERVISOR = "DEALCAST_SUPERVISOR"
WORKERS = "DEALCAST_WORKERS"
DRAIN_SECONDS = "DEALCAST_DRAIN_SECONDS"
CLIENT_SECRET = "DEALCAST_OIDC_CLIENT_SECRET"
HUBSPOT_SECRET = "DEALCAST_HUBSPOT_CLIENT_SECRET"
LONGEST_SECONDS = 120
ARENAS, MOST_ARENAS = "MALLOC_ARENA_MAX", "2"
"""Every thread gets an arena of glibc's, up to eight a processor, and each keeps what was freed in it, which grows with
every data version loaded. Two are enough where Python lets one thread at a time run (docs/decisions/memory.md)."""
PACKAGES = Path(__file__).resolve().parents[1]

workspace = Path(os.environ.get(WORKSPACE, "workspace")).resolve()
ledger_url = os.environ.get(LEDGER_URL) or f"sqlite:///{workspace / 'dealcast.db'}"
api = create_api(
    workspace,
    ledger_url,
    Access.from_json(os.environ.get(ACCESS, "")),
    client_secret=os.environ.get(CLIENT_SECRET) or None,
    hubspot_secret=os.environ.get(HUBSPOT_SECRET) or None,
)


class OnlyOurRoutes:
    """Middleware that answers every request from our routes: BentoML's own load outside scripts and need no key."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (api if scope["type"] == "http" else self.app)(scope, receive, send)


@bentoml.service(
    name="dealcast",
    workers=int(os.environ.get(WORKERS, "1")),
    traffic={"timeout": LONGEST_SECONDS},
    tracing={"excluded_urls": ".*"},  # spans of BentoML's own, that go nowhere, took a quarter of a request's time
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
@bentoml.asgi_app(api, path="/")
class Dealcast:
    """Win probabilities and forecasts over HTTP; the routes are in `serving.api`, which BentoML starts and stops."""

    def __init__(self) -> None:
        api.state.drain.begin_on_sigterm(float(os.environ.get(DRAIN_SECONDS, "0")))
        if SUPERVISOR in os.environ:
            threading.Thread(target=stop_with, args=(int(os.environ[SUPERVISOR]),), daemon=True).start()


Dealcast.add_asgi_middleware(OnlyOurRoutes)  # type: ignore[attr-defined]


def stop_with(supervisor: int) -> None:
    """End this worker when the process that started it is gone, killed outright or not."""
    while os.getppid() == supervisor:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def run_service(
    workspace: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    workers: int | None = None,
    ledger_url: str | None = None,
    access: Access | None = None,
    client_secret: str = "",
    hubspot_secret: str = "",
) -> None:
    """Serve a workspace until Ctrl-C or SIGTERM.

    Parameters
    ----------
    host : an address of this machine; 0.0.0.0 for all of them.
    workers : processes that answer, each with all scores in memory; default: DEALCAST_WORKERS, else 1.
    ledger_url : default: `dealcast.db` in the workspace.
    access : who may come in and what they see; default: keys alone.
    client_secret : what the identity provider knows this service by; empty if it has none.
    hubspot_secret : what HubSpot signs its webhooks with; empty: they are not taken.

    Raises
    ------
    UsageError
        Nothing can listen at this host and port.
    LedgerError
        The ledger cannot be opened.
    """
    workspace = workspace.resolve()
    host = "127.0.0.1" if host == "localhost" else host
    url = absolute_url(ledger_url or f"sqlite:///{workspace / 'dealcast.db'}")
    must_be_free(host, port)
    ledger = open_ledger(url)  # a worker that cannot open it would be started again and again
    if host in LOOPBACK:
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        link = link_for(ledger, address, now=pd.Timestamp.now("UTC"))
        sys.stderr.write(f"Sign in, once and within 15 minutes: {link}\n")
        sys.stderr.flush()
    ledger.engine.dispose()
    os.environ.setdefault(ARENAS, MOST_ARENAS)  # of the workers: it counts from a process's start
    home = workspace / "bentoml"
    home.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            WORKSPACE: str(workspace),
            LEDGER_URL: url,
            ACCESS: (access or Access()).to_json(),
            CLIENT_SECRET: client_secret,
            HUBSPOT_SECRET: hubspot_secret,
            SUPERVISOR: str(os.getpid()),
            "BENTOML_HOME": str(home),
        }
    )
    Dealcast.config["workers"] = workers or int(os.environ.get(WORKERS, "1"))  # type: ignore[attr-defined]
    # The worker starts where this package lies, so that no folder of the user's is imported in its place.
    bentoml.serve("serving.service:Dealcast", working_dir=str(PACKAGES), host=host, port=port, blocking=True)


def must_be_free(host: str, port: int) -> None:
    """Refuse a host and port where nothing can listen, before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as failure:
        rule = f"a free port at an address of this machine ({failure.strerror})"
        detail = Detail("--host, --port", f"{host}:{port}", rule, "choose another port, or stop what listens there")
        raise UsageError(f"Nothing can listen at {host}:{port}.", detail) from None
