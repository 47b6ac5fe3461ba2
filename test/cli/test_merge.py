"""vggt3 merge: what it refuses, and that it leaves nothing behind. Merging itself is tested in
refinement/test_sessions.py.
"""

import pytest
from written_map import written_map

from vggt3_ros.cli.main import main


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return written_map(tmp_path_factory.mktemp("saved") / "map")[0]


def refused(capsys, *arguments):
    assert main(["merge", "--quiet", *map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_one_map_is_not_enough(saved, tmp_path, capsys):
    assert "two or more maps" in refused(capsys, saved, "--out", tmp_path / "out")


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_an_existing_folder_is_not_touched(saved, tmp_path, capsys, kind):
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "mine").touch()
    else:
        out.symlink_to(tmp_path / "nowhere")
    assert "name a new folder" in refused(capsys, saved, saved, "--out", out)
    assert (out / "mine").exists() if kind == "folder" else out.is_symlink()


def test_a_setting_that_there_is_not_is_named_before_anything_is_read(tmp_path, capsys):
    arguments = (tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out", "--set", "memory.x=1")
    assert "--set memory.x=1" in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_map_is_named_and_nothing_is_left(saved, tmp_path, capsys):
    error = refused(capsys, saved, tmp_path / "none", "--out", tmp_path / "deep" / "out")
    assert str(tmp_path / "none") in error
    assert not list((tmp_path / "deep").iterdir())
