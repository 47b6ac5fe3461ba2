"""Format, lint and types of the whole tree, as pyproject.toml asks for them. The tools come with
scripts/setup; where one is missing, its test is skipped.
"""

import importlib.util
import shutil
import subprocess
import sys
import tomllib

import pytest
from folders import ROOT

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(tool, *arguments):
    """Output of `python -m tool`, run on the whole tree; fails when it finds something."""
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: scripts/setup brings it")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{tool} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_lint():
    run("ruff", "check", ".")


def test_format():
    run("ruff", "format", "--check", ".")


def test_types():
    """Takes less than a minute of one processor the first time, seconds after (.mypy_cache)."""
    assert "no issues found" in run("mypy")


def test_the_list_of_modules_without_types_names_modules():
    """pyproject.toml: a module that was moved or removed leaves the list, too."""
    (listed,) = (
        override["module"]
        for override in CONFIG["tool"]["mypy"]["overrides"]
        if override["module"] != ["vggt3_ros.ros.*"]
    )
    assert listed == sorted(set(listed))
    paths = [ROOT.joinpath(*module.split(".")) for module in listed]
    gone = [
        module
        for module, path in zip(listed, paths)
        if not (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())
    ]
    assert not gone


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docker").glob("Dockerfile*")), ids=lambda p: p.name
)
def test_dockerfiles(path):
    """As hadolint has it; what it need not object to is said in the file."""
    hadolint = shutil.which("hadolint", path=f"{sys.prefix}/bin") or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: scripts/setup brings it on x86-64")
    done = subprocess.run([hadolint, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
