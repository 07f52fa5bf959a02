"""What the ledger refuses. The exit and API codes are those of `crm.errors`; this package does not import that one."""

from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Trouble:
    """One finding behind a refusal: where it stands, the value seen, the rule it breaks, what to do next."""

    where: str
    value: str | None
    rule: str
    next_step: str

    def to_dict(self) -> dict[str, str | None]:
        """The finding as JSON values."""
        return asdict(self)


class LedgerError(Exception):
    """Something the user or the database must put right; the message says what, the details where and the next step."""

    exit_code: ClassVar[int] = 2
    code: ClassVar[str] = "invalid"

    def __init__(self, message: str, *details: Trouble) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class LedgerUnavailable(LedgerError):
    """The database cannot be reached, opened or migrated (exit 5, unavailable)."""

    exit_code = 5
    code = "unavailable"
