"""Before anything is installed: is this machine's Python good enough, and is the one system library there?

Runs on any Python 3, with nothing but the standard library, and prints the fix for whatever is wrong.
"""

import ctypes.util
import importlib.util
import platform
import sys


def problems():
    """Yield each problem as (what is wrong, how to mend it)."""
    if sys.version_info < (3, 11):
        yield (
            "Python %s is too old, 3.11 or newer is needed" % platform.python_version(),
            "install a newer one and run: make PYTHON=python3.11 ...",
        )
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        yield "this Python cannot make virtual environments", "sudo apt-get install python3-venv"
    if sys.platform == "linux" and ctypes.util.find_library("gomp") is None:
        yield "the library libgomp is missing (LightGBM needs it)", "sudo apt-get install libgomp1"


found = list(problems())
for what, fix in found:
    print("Cannot install: %s.\n  Fix: %s" % (what, fix), file=sys.stderr)
sys.exit(1 if found else 0)
