"""What the settings of connections over the web have in common: the address, patience, how they check themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from crm.connectors.transport import Patience
from crm.errors import Detail, UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """Where a CRM is, and the patience with it.

    Attributes
    ----------
    url : of the server; https, but for one on this machine.
    timeout_seconds, tries, pause_seconds : for one answer, how many times to ask, the first pause (then doubling).
    """

    name: ClassVar[str]
    secret: ClassVar[str]
    needs_secret: ClassVar[bool] = True
    url: str
    timeout_seconds: float = 60.0
    tries: int = 6
    pause_seconds: float = 0.5

    def __post_init__(self) -> None:
        broken = [
            Detail(name, str(getattr(self, name)), rule, "Correct it, or leave it out for the default.")
            for name, (rule, holds) in self.rules().items()
            if not holds
        ]
        if broken:
            raise UsageError(f"The settings of {self.name} cannot be used.", *broken)

    @property
    def patience(self) -> Patience:
        """With what goes wrong on the way."""
        return Patience(self.timeout_seconds, self.tries, self.pause_seconds)

    def rules(self) -> Mapping[str, tuple[str, bool]]:
        """By setting, the rule and whether it holds."""
        where = urlsplit(self.url)
        return {
            "url": ("https://HOST", where.scheme == "https" or where.hostname in LOOPBACK),
            "timeout_seconds": ("above 0", self.timeout_seconds > 0),
            "tries": ("1 or more", self.tries >= 1),
            "pause_seconds": ("0 or more", self.pause_seconds >= 0),
        }


def listed(names: str) -> list[str]:
    """Names that stand with commas between."""
    return [name.strip() for name in names.split(",") if name.strip()]


@contextmanager
def client_library(name: str) -> Iterator[None]:
    """Where a connector imports its client library, an extra of dealcast of the same name.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        yield
    except ImportError as error:
        detail = Detail(name, None, f"the extra {name} is installed ({error})", f"pip install 'dealcast[{name}]'")
        raise UsageError(f"The client library of {name} is not installed.", detail) from error
