"""The command vggt3: one module per subcommand. Heavy modules are imported only when a command
runs.
"""

import argparse
from typing import TypeAlias

# what add_subparsers() returns: the commands are added to it
SubParsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
