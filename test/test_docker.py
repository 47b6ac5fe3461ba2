"""Dockerfiles: the same for each distribution, their context complete, and the entry point passes
the command on.
"""

import fnmatch
import os
import re
import subprocess

import pytest
from folders import ROOT

DISTRIBUTIONS = "jazzy", "kilted"
DOCKER = ROOT / "docker"


def text(distribution):
    return (DOCKER / f"Dockerfile.{distribution}").read_text()


def test_the_files_differ_by_the_distribution_alone():
    first, second = (
        text(name).replace(name, "NAME").replace(name.capitalize(), "Name")
        for name in DISTRIBUTIONS
    )
    assert first == second


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_image_has_what_setup_asks_of_the_system(name):
    """A user who is not root cannot install it when scripts/setup runs."""
    asked = re.search(
        r"system_packages\(\) \{(.*?)\n\}", (ROOT / "scripts/setup").read_text(), re.S
    )
    words = set(re.findall(r"[a-z0-9.+-]+", asked[1]))
    installed = re.search(r"--no-install-recommends \\\n(.*?) \\\n", text(name))[1].split()
    for package in (
        "cmake", "g++", "libgl1", "libgomp1", "libjemalloc2", "libusb-1.0-0", "make",
        "python3-colcon-common-extensions", "python3-dev", "python3-venv",
    ):  # fmt: skip
        assert package in words, f"scripts/setup no longer asks for {package}"
        assert package in installed
    needed = re.findall(r"missing_library \S+ (\S+)", asked[1])
    assert len(needed) >= 4 and set(needed) <= set(installed)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_argument_is_called_like_a_variable_that_bash_sets_itself(name):
    """In a step, bash would read its own: UID is 0 there."""
    for argument in re.findall(r"^ARG (\w+)", text(name), re.M):
        shell = ["bash", "-c", f"echo ${argument}"]
        done = subprocess.run(
            shell, env={**os.environ, argument: "ours"}, capture_output=True, text=True
        )
        assert done.stdout == "ours\n", argument


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_it_runs_as_a_user_and_not_as_root(name):
    lines = text(name).splitlines()
    user = lines.index("USER $USER_ID")
    setup = next(i for i, line in enumerate(lines) if "scripts/setup --torch" in line)
    assert user < setup and not any(line.startswith("USER") for line in lines[user + 1 :])


def test_the_context_holds_what_setup_reads():
    ignored = [
        line.removeprefix("**/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    sources = [
        "scripts",
        "msg",
        "srv",
        "action",
        "launch",
        "config",
        "vggt3_ros",
        "docker",
        "test",
    ]
    for name in [*sources, "package.xml", "CMakeLists.txt", "setup.cfg", "setup.py", "README.md"]:
        assert (ROOT / name).exists()
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name
    for made in (".venv", "install", "build", ".mypy_cache", "__pycache__"):
        assert any(fnmatch.fnmatch(made, pattern) for pattern in ignored), made


def test_the_entry_point_sources_both_environments_and_passes_the_command_on(tmp_path):
    (tmp_path / "ros").mkdir()
    (tmp_path / "ros" / "setup.bash").write_text("export OF_ROS=1\n")
    (tmp_path / "vggt3_ros" / "docker").mkdir(parents=True)
    (tmp_path / "vggt3_ros" / "install").mkdir()
    (tmp_path / "vggt3_ros" / "install" / "setup.bash").write_text("export OURS=$OF_ROS$OF_ROS\n")
    entrypoint = tmp_path / "vggt3_ros" / "docker" / "entrypoint"
    entrypoint.write_bytes((DOCKER / "entrypoint").read_bytes())
    assert os.access(DOCKER / "entrypoint", os.X_OK)
    command = ["bash", entrypoint, "bash", "-c", 'echo "$OURS $1"; exit 7', "x", "two words"]
    done = subprocess.run(
        command,
        env={**os.environ, "ROS_PREFIX": str(tmp_path / "ros")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (7, "11 two words\n"), done.stderr
    (tmp_path / "ros" / "setup.bash").unlink()
    without = subprocess.run(
        command, env={**os.environ, "ROS_PREFIX": str(tmp_path / "ros")}, capture_output=True
    )
    assert without.returncode not in (0, 7) and b"setup.bash" in without.stderr
