"""Where the tests' own files lie."""

import os
from pathlib import Path

SUPPORT = Path(__file__).parent  # the modules that tests import by their bare names
DATA = SUPPORT.parent / "data"
ROOT = SUPPORT.parents[1]
SHARED = ROOT.parent / "shared" / "data"  # real sequences, on machines that have them


def python_path():
    """PYTHONPATH for a process that imports from SUPPORT."""
    return os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
