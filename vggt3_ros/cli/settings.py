"""Parse config values from the command line: NAME=VALUE."""

from collections.abc import Iterable

from vggt3_ros.config import BackendConfig


def parse_settings(pairs: Iterable[str]) -> dict[str, bool | int | float | str]:
    """Parse ["memory.steps=300", ...] to {"memory.steps": 300}. Raises ValueError naming an
    invalid pair.
    """
    known = BackendConfig().flat()
    out: dict[str, bool | int | float | str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"--set {pair}: give NAME=VALUE with one of the names {', '.join(known)}"
            )
        default = known[name][0]
        try:
            out[name] = (
                {"true": True, "false": False}[text.lower()]
                if isinstance(default, bool)
                else type(default)(text)
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"--set {pair}: {name} takes a {type(default).__name__}") from error
    return out
