"""Answers that cost much, worked out once and kept while there is room."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Asked = TypeVar("Asked", bound=Hashable)
Answer = TypeVar("Answer")


class Kept(Generic[Asked, Answer]):
    """The answers to the last questions, by question; from any thread, of which one at a time works something out.

    Parameters
    ----------
    most : so many answers are kept; the oldest goes before a new one is worked out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Asked, Answer] = {}
        self._lock = Lock()

    def of(self, asked: Asked, work_out: Callable[[], Answer]) -> Answer:
        """The answer, worked out if it is not there."""
        with self._lock:
            if asked not in self._kept:
                while len(self._kept) >= self._most:
                    del self._kept[next(iter(self._kept))]
                self._kept[asked] = work_out()
            return self._kept[asked]
