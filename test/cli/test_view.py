"""vggt3 view: a picture, or one line that says why there is none."""

import cv2
from boxes import snapshot

from vggt3_ros.cli.main import main
from vggt3_ros.store.keyframes import KeyframeStore


def test_the_command_writes_a_picture_or_one_line(tmp_path, capsys, monkeypatch):
    with KeyframeStore(tmp_path / "map") as store:
        store.snapshots.mkdir()
        snapshot().save(store.snapshots / "000001")
    assert (
        main(
            [
                "view",
                str(tmp_path / "map"),
                "--png",
                str(tmp_path / "map.png"),
                "--size",
                "200x150",
            ]
        )
        == 0
    )
    assert "5 keyframes, 8000 points" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "map.png")).shape == (150, 200, 3)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for arguments, text in (
        ([str(tmp_path)], "is not a saved map"),
        ([str(tmp_path / "map")], "--png FILE"),
        ([str(tmp_path / "map"), "--size", "9"], "--size must be"),
        ([str(tmp_path / "map"), "--png", str(tmp_path / "none" / "map.png")], "cannot write"),
    ):
        assert main(["view", *arguments]) == 2
        assert text in capsys.readouterr().err
