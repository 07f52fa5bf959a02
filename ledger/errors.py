"""What the ledger refuses. The exit and API codes are those of `crm.errors`; this package does not import that one."""

from typing import ClassVar


class LedgerError(Exception):
    """Something the user or the database must put right; the message says what, where and the next step."""

    exit_code: ClassVar[int] = 2
    code: ClassVar[str] = "invalid"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class LedgerUnavailable(LedgerError):
    """The database cannot be reached, opened or migrated (exit 5, unavailable)."""

    exit_code = 5
    code = "unavailable"
