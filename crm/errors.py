"""What goes wrong and whose turn it is: an error a user can cause says what, where, value, rule and next step."""

from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Detail:
    """One finding behind an error: where it stands, the value seen, the rule it breaks, what to do next."""

    where: str
    value: str | None
    rule: str
    next_step: str

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)


class DealcastError(Exception):
    """A mistake or failure that is explained, never shown as a traceback.

    `exit_code` is what the command line ends with, `code` what the API and `--json` name.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "invalid"

    def __init__(self, message: str, *details: Detail) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UsageError(DealcastError):
    """The command or request was put wrongly (exit 2, invalid)."""

    exit_code = 2


class DataUnusable(DealcastError):
    """The data cannot be used as they are (exit 3, invalid)."""

    exit_code = 3


class NoModel(DealcastError):
    """No model may answer for this moment (exit 4, unavailable)."""

    exit_code = 4
    code = "unavailable"


class NotFound(DealcastError):
    """What was asked for does not exist, or may not be seen (exit 2, not_found)."""

    exit_code = 2
    code = "not_found"


class OtherSideFailed(DealcastError):
    """A CRM, registry or database did not do its part (exit 5, unavailable)."""

    exit_code = 5
    code = "unavailable"
