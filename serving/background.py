"""What a service does beside answering: one thing again and again, in a thread of its own."""

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """Takes turns until it is stopped; whoever waits within a turn waits on `_woken` or `_stopped`."""

    def __init__(self, name: str) -> None:
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Begin no other turn."""
        self._stopped.set()
        self._woken.set()

    def join(self) -> None:
        """Wait until the turn that is being taken is over."""
        self._thread.join()

    def wake(self) -> None:
        """Something is new: do not wait for the next turn."""
        self._woken.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            self._turn()

    @abstractmethod
    def _turn(self) -> None:
        """Look, do, and wait for the next time."""
