"""The documentation: it builds without a warning, its links lead somewhere, and README stays
short.
"""

import re
import subprocess
import sys

import pytest
from folders import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def test_it_builds_without_a_warning(tmp_path):
    pytest.importorskip(
        "mkdocs", reason="mkdocs-material is not installed: scripts/setup brings it"
    )
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    built = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    for page in (ROOT / "docs").glob("*.md"):
        name = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        assert (tmp_path / "site" / name).stat().st_size > 2000
    reference = (tmp_path / "site" / "library" / "index.html").read_text()
    assert "T_map_cam (4, 4)" in reference and "refine" in reference


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    for link in links:
        assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_it_shows_exist(page):
    """Every vggt3 command and option that is shown is one that the command line knows."""
    from vggt3_ros.cli.main import COMMANDS

    for command in re.findall(r"\bvggt3 ([a-z]+)", page.read_text().replace("vggt3 COMMAND", "")):
        assert command in COMMANDS, f"{page.name}: vggt3 {command}"


def test_readme_is_short_and_opens_with_demo_and_test():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert [line.split("#")[0].strip() for line in lines if line.startswith("    ")][:2] == [
        "scripts/demo",
        "scripts/test",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_was_left_to_be_filled_in(page):
    assert not re.findall(r"@[A-Z]+@|TODO|FIXME", page.read_text())
