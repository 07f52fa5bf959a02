"""What takes long to make is made once for all processes of a test session."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that whoever comes first makes, while the others wait; nobody may change it."""
    beside = factory.getbasetemp()
    beside = beside.parent if "PYTEST_XDIST_WORKER" in os.environ else beside
    made, half = beside / name, beside / f"{name}-half"
    with (beside / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(half)
            half.rename(made)
    return made
