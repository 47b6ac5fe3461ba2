"""The benchmarks of a run: each a command of vggt3 that writes JSON, and what its figures are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggt3_ros.benchmarks.suite import figures
from vggt3_ros.benchmarks.suite.figures import Extract

FOLDER = "{folder}"  # in arguments: the part's own empty folder
OUT = "{out}"  # in arguments: the file that the part writes its JSON to, else it prints it
QUICK_KEYFRAMES, QUICK_QUERIES = 40, 12  # of the rendered apartment


@dataclass(frozen=True)
class Part:
    """name: in the file. arguments: of vggt3. setting: the same without the paths of this
    machine, for a comparison. figures: JSON -> {name: Figure}.
    """

    name: str
    arguments: tuple[str, ...]
    setting: str
    figures: Extract


def parts(data: dict[str, Path], quick: bool) -> list[Part]:
    """Return the parts for data sets {name: folder}, the rendered "apartment" among them where it
    could be rendered.
    """
    found = [
        _part(
            f"evaluate {name}",
            ["evaluate", str(path), "--out", OUT, "--quiet"],
            figures.of_evaluate,
        )
        for name, path in data.items()
    ]
    found.append(
        _benchmark(
            "network",
            [*(["--images", "8,32", "--repeat", "2", "--plain-images", "8"] if quick else [])],
            figures.of_network,
        )
    )
    for name, path in data.items():
        kinds = ["--without", "adam", "--without", "head"] if quick else []
        memory = [str(path), "--without", "mlp", *kinds, "--quiet"]
        found.append(_benchmark("memory", memory, figures.of_memory, name))
    strangers = [*map(str, data.values()), "twins"]
    found.append(_benchmark("refusals", [*strangers, "--quiet"], figures.of_refusals))
    for name, path in data.items():
        few = ["--fault", "frozen for 3", "--seeds", "1"] if quick else []
        found.append(_benchmark("faults", [str(path), *few, "--quiet"], figures.of_faults, name))
    rooms = ["--rooms", "1"] if quick else []
    found.append(_benchmark("rooms", [*rooms, "--folder", FOLDER, "--quiet"], figures.of_rooms))
    growth = ["--keyframes", "20,60", "--add", "5", "--repeat", "1", "--batch", "20"]
    found.append(
        _benchmark(
            "growth",
            [*(growth if quick else []), "--folder", FOLDER, "--quiet"],
            figures.of_growth,
        )
    )
    return found + _of_the_node(data, quick)


def _of_the_node(data: dict[str, Path], quick: bool) -> list[Part]:
    """Return the parts that start the node; they need ROS 2."""
    sent = ["--input", str(data["apartment"])] if "apartment" in data else []
    node = ["--seconds", "20", "--rate", "5"] if quick else []
    restarts = ["--kills", "3"] if quick else []
    session = ["--keyframes", "60", "--batch", "30"] if quick else []
    return [
        _benchmark("node", [*sent, *node, "--out", FOLDER], figures.of_node),
        _benchmark("restarts", [*sent, *restarts, "--out", FOLDER], figures.of_restarts),
        _benchmark("session", [*session, "--out", FOLDER, "--quiet"], figures.of_session),
    ]


def _benchmark(name: str, arguments: Sequence[str], extract: Extract, data: str = "") -> Part:
    title = f"{name} {data}".strip()
    return _part(title, ["benchmark", name, *arguments, "--json"], extract)


def _part(name: str, arguments: Sequence[str], extract: Extract) -> Part:
    setting = " ".join("PATH" if "/" in word else word for word in arguments)
    return Part(name, tuple(arguments), setting, extract)
