"""`vggt3 view --web` as it is typed, seen in a browser."""

import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("viser", reason="viser is not installed: scripts/setup brings it")

from chromium import PROGRAM, WHY_NOT, Chromium

from vggt3_ros.cli.main import main
from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.web import palette

needs_chromium = pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
SECONDS = 120
SCENE = slice(0, 600)  # columns left of the panel


@pytest.fixture
def serve(tmp_path):
    """Starts the command; SIGINT at the end must be an orderly exit."""
    processes = []

    def start(*arguments):
        log = tmp_path / f"{len(processes)}.log"
        with open(log, "w") as file:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "vggt3_ros.cli.main", "view", "--web", "--port", "0"]
                    + ["--set", "device=cpu", *map(str, arguments)],
                    stdout=file,
                    stderr=file,
                )
            )
        end = time.monotonic() + SECONDS
        while not (found := re.search(r"http://(\S+):(\d+)", log.read_text())):
            assert processes[-1].poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        return f"http://127.0.0.1:{found[2]}/", log

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert [process.wait(60) for process in processes] == [0] * len(processes)


def drawn(browser, picture):
    """Share of the pixels of the scene that are not background, and how many colours there are."""
    browser.screenshot(picture)
    scene = cv2.imread(str(picture))[:, SCENE, ::-1].astype(int)
    share = (np.abs(scene - palette.BACKGROUND).max(axis=2) > 24).mean()
    return share, len(np.unique(scene.reshape(-1, 3) // 8, axis=0))


@needs_chromium
def test_the_page_shows_the_map_follows_it_and_finds_an_image_without_the_internet(
    serve, refined_copy, rendered, tmp_path
):
    url, log = serve("--max-points", 60_000, refined_copy)
    with Chromium(tmp_path / "profile", size=(960, 600), webgl=True) as browser:
        browser.open(url)
        browser.until("document.body?.innerText.includes('28 stored, 28 refined')")
        end = time.monotonic() + SECONDS
        while (found := drawn(browser, tmp_path / "seen.png"))[0] < 0.05 or found[1] < 100:
            assert time.monotonic() < end, f"the picture stays blank: {found}"
            time.sleep(0.5)
        # the next refinement is there without a reload
        partial = refined_copy / "snapshots" / "000002.partial"
        shutil.copytree(refined_copy / "snapshots" / "000001", partial)
        Snapshot.renumber(partial, 2)
        partial.rename(refined_copy / "snapshots" / "000002")
        browser.until("document.body.innerText.includes('Refinement 2')")
        # a file that a user chooses
        view = tmp_path / "view.png"
        cv2.imwrite(str(view), rendered.queries[0][..., ::-1])
        browser.give_file("input[type=file]", view)
        text = browser.until("/Position\\s+\\S+, \\S+, \\S+ m/.exec(document.body.innerText)?.[0]")
        position = [float(word.strip(",")) for word in text.split()[1:4]]
        truth = (
            rendered.T_odom_cam[0]
            @ se3.inverse(rendered.T_world_cam[0])
            @ rendered.T_world_query[0]
        )
        assert np.linalg.norm(position - truth[:3, 3]) < 0.1
        assert not any(text.startswith("error") for text in browser.messages), browser.messages
        here = url.removeprefix("http://").rstrip("/")
        assert {re.sub(r"^\w+://", "", asked).rstrip("/") for asked in browser.requests} <= {here}
    assert "Traceback" not in log.read_text()


def test_it_waits_for_a_store_if_told_to_and_says_who_else_can_see_it(serve, tmp_path):
    _, log = serve("--wait", "--host", "0.0.0.0", tmp_path / "none")
    assert "anybody who reaches 0.0.0.0" in log.read_text()
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_served_is_one_line(refined_folder, tmp_path, capsys):
    for arguments, text in (
        ([str(tmp_path)], "add --wait"),
        ([str(refined_folder), "--png", "x.png"], "exclude each other"),
        ([str(refined_folder), "--port", "70000"], "0 to 65535"),
        ([str(refined_folder), "--host", "no.such.host.invalid"], "no address of this machine"),
        ([str(refined_folder), "--max-points", "0"], "--max-points must be"),
        ([str(refined_folder), "--camera", str(tmp_path / "none.yaml")], "cannot be read"),
        ([str(refined_folder), "--set", "no.such=1"], "no.such"),
    ):
        assert main(["view", "--web", *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1, error


def test_without_viser_it_says_what_to_install(refined_folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("vggt3_ros.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["view", "--web", str(refined_folder)]) == 2
    assert "vggt3_ros[web]" in capsys.readouterr().err
