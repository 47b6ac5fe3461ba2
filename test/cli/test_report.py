"""vggt3 report as it is typed: a page, or one line that says what is wrong."""

import re
import shutil

from random_keyframes import make_keyframe

from vggt3_ros.cli.main import main
from vggt3_ros.store.keyframes import KeyframeStore


def test_a_page_that_needs_nothing_else_and_stays_small(refined_folder, tmp_path, capsys):
    page = tmp_path / "map.html"
    page.write_text("of last time")
    assert main(["report", str(refined_folder), "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and list(tmp_path.iterdir()) == [page]
    assert 100_000 < len(text) < 3_000_000
    addresses = re.findall(r'\b(?:src|href|action|data)="([^"]*)"', text)
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)


def test_a_map_without_images_says_so(refined_copy, tmp_path):
    with KeyframeStore(refined_copy) as store:
        store.forget_images()
    page = tmp_path / "map.html"
    assert main(["report", str(refined_copy), "--out", str(page)]) == 0
    text = page.read_text()
    assert (
        text.count("saved without images") == 2
        and '<script id="pictures" type="application/json">{}<' in text
    )


def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(refined_copy, tmp_path, capsys):
    new = tmp_path / "new"
    with KeyframeStore(new) as store:
        store.put(make_keyframe(0))
    damaged = shutil.copytree(refined_copy, tmp_path / "damaged")
    for path in (damaged / "snapshots").glob("*/slots.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    here = str(tmp_path / "page.html")
    for arguments, message in (
        ([str(tmp_path)], "is not a saved map"),
        ([str(tmp_path / "nowhere")], "is not a saved map"),
        ([str(new)], "holds 1 keyframes but no refined map: refine it first"),
        ([str(damaged)], "is not a readable scene memory"),
        ([str(refined_copy), "--out", str(tmp_path)], "is a folder"),
        ([str(refined_copy), "--out", str(tmp_path / "no" / "page.html")], "there is no folder"),
    ):
        assert (
            main(["report", *arguments, *([] if "--out" in arguments else ["--out", here])]) == 2
        )
        error = capsys.readouterr().err.strip()
        assert message in error and error.startswith("vggt3: ") and "\n" not in error
    assert not (tmp_path / "page.html").exists() and not (tmp_path / "no").exists()
