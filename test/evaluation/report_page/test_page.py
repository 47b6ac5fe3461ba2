"""The page of a store without truth, in a browser: all of it is there, nothing is asked of the
network, and nothing that a map's files say is taken for HTML.
"""

import json

import numpy as np
import pytest
from chromium import PROGRAM, WHY_NOT, Chromium

from vggt3_ros.cli.main import main
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
SECTIONS = ["trajectory", "error", "loops", "cost", "localization", "queries", "memory", "setting"]
HOSTILE = '</script><script>window.bad=1</script><img src=x onerror="window.bad=1">&amp;'


def newest(folder):
    with KeyframeStore(folder, read_only=True) as store:
        return Snapshot.load(sorted(store.snapshots.glob("[0-9]" * 6))[-1])


@pytest.fixture(scope="module")
def page(refined_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(refined_folder), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(page)
        yield browser


def test_it_renders_without_a_word_and_without_the_network(browser):
    assert browser.messages == [] and browser.requests == []
    assert (
        browser.run("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    )
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    heights = browser.run(
        "[...document.querySelectorAll('main > section')].map(s => s.getBoundingClientRect().height)"
    )
    assert min(heights) > 40
    assert browser.run(
        "[...document.images].filter(i => i.hasAttribute('src')).every(i => i.complete && i.naturalWidth > 0)"
    )


def test_a_browser_notices_what_a_page_must_not_do(tmp_path):
    """So that the test above can fail."""
    path = tmp_path / "bad.html"
    path.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('no')</script>")
    folder = tmp_path / "chromium"
    folder.mkdir()
    with Chromium(folder) as browser:
        browser.open(path)
        assert browser.requests == ["http://127.0.0.1:9/x.png"]
        assert any("no" in message for message in browser.messages)


def test_its_head_forbids_scripts_and_requests_that_are_not_its_own(browser):
    added = (
        "(() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        " document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
        " document.body.append(i); s.remove(); i.remove(); return window.bad === undefined; })()"
    )
    policy = browser.run("document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    before = len(browser.messages)
    assert browser.run(added)
    assert any("Content Security Policy" in text for text in browser.messages[before:])
    del browser.messages[before:]
    browser.requests.clear()


def test_what_only_the_truth_tells_is_left_out_in_a_sentence(browser):
    for name in ("error", "localization", "queries"):
        assert browser.run(f"document.querySelectorAll('#{name} svg, #{name} table').length") == 0
        assert len(browser.run(f"document.querySelector('#{name} .absent').textContent")) > 30
    assert browser.run("document.querySelector('path.way.truth')") is None
    assert browser.run("document.querySelector('path.way.odometry').getTotalLength()") > 50


def test_loops_show_the_images_behind_them(browser, refined_folder):
    """A line that is pointed at, and a row that is clicked."""
    snapshot = newest(refined_folder)
    accepted = sum(loop.accepted for loop in snapshot.loops)
    counts = browser.run(
        "[...document.querySelector('#loops table').tBodies[0].rows].map(r => [...r.cells].slice(1).map(c => Number(c.dataset.value)))"
    )
    assert np.sum(counts, axis=0).tolist() == [accepted, len(snapshot.loops) - accepted]
    assert browser.run("document.querySelectorAll('line.loop.accepted').length") == accepted
    pairs = {(loop.source_id, loop.target_id) for loop in snapshot.loops}
    rows = "document.querySelectorAll('#loop-table tbody tr')"
    assert browser.run(f"{rows}.length") == len(snapshot.loops)
    browser.run(f"{rows}[3].scrollIntoView({{block: 'center'}})")
    x, y = browser.run(
        f"(() => {{ const r = {rows}[3].getBoundingClientRect(); return [r.x + 20, r.y + 5]; }})()"
    )
    browser.click(x, y)
    source, target = browser.run(
        f"[...{rows}[3].cells].slice(0, 2).map(c => Number(c.dataset.value))"
    )
    assert (source, target) in pairs
    shown = browser.run(
        "['source', 'target'].map(s => document.getElementById('pair-' + s)).map(i => [i.alt, i.naturalWidth])"
    )
    assert shown == [[f"keyframe {source}", 320], [f"keyframe {target}", 320]]
    longest = browser.run(
        "(() => { const l = [...document.querySelectorAll('line.loop')].map(e => [e.getTotalLength(), e]).sort((a, b) => b[0] - a[0])[0][1];"
        " l.scrollIntoView({block: 'center'}); const r = l.getBoundingClientRect();"
        " return [Number(l.dataset.loop), r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    browser.point(*longest[1:])
    assert browser.run("document.querySelector('line.loop.chosen') !== null")
    assert browser.run("document.getElementById('pair-text').textContent") != "No loop is chosen."


def test_filters_hide_a_kind_of_loops_and_titles_sort(browser):
    hidden = "getComputedStyle(document.querySelector('line.loop.accepted')).display"
    assert browser.run(hidden) != "none"
    browser.run("document.querySelector('input[data-kind=accepted]').click()")
    assert browser.run(hidden) == "none"
    browser.run("document.querySelector('input[data-kind=accepted]').click()")
    column = "[...document.querySelectorAll('#loop-table tbody tr')].map(r => Number(r.cells[4].dataset.value))"
    before = browser.run(column)
    browser.run("document.querySelectorAll('#loop-table th')[4].click()")
    assert browser.run(column) == sorted(before)
    browser.run("document.querySelectorAll('#loop-table th')[4].click()")
    assert browser.run(column) == sorted(before, reverse=True)


def test_cost_memory_and_settings_are_those_of_the_snapshot(browser, refined_folder):
    snapshot = newest(refined_folder)
    seconds = browser.run(
        "Object.fromEntries([...document.querySelectorAll('#cost [data-figure]')].map(e => [e.dataset.figure, Number(e.dataset.value)]))"
    )
    assert seconds == {f"seconds.{name}": spent for name, spent in snapshot.seconds.items()}
    text = browser.run("document.getElementById('cost').innerText")
    for used in snapshot.report["memory_mb"].values():
        assert f"{used['resident']:,.0f} MB" in text and used["peak"] >= used["resident"] > 100
    text = browser.run("document.getElementById('memory').innerText")
    assert f"{snapshot.report['slots']:,}" in text
    assert browser.run("document.querySelector('#memory svg.spread rect.bar') !== null")
    rows = browser.run(
        "[...document.querySelectorAll('#settings tbody tr')].map(r => [...r.cells].slice(0, 3).map(c => c.textContent))"
    )
    assert ["map.voxel_size", "0.03", "0.02"] in rows and ["device", "cpu", "auto"] in rows
    text = browser.run("document.getElementById('setting').innerText")
    assert snapshot.report["made_by"]["device"] in text
    assert browser.run("document.querySelectorAll('#setting details tbody tr').length") > 50


def test_it_is_dark_where_the_reader_wants_that(page, browser, tmp_path):
    color = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    with Chromium(tmp_path, dark=True) as dark:
        dark.open(page)
        assert dark.messages == []
        assert max(dark.run(color)) < 60 and min(browser.run(color)) > 200


def test_texts_of_a_hostile_map_are_shown_not_obeyed(refined_copy, tmp_path):
    folder = sorted((refined_copy / "snapshots").glob("[0-9]" * 6))[-1]
    text = json.loads((folder / "snapshot.json").read_text())
    for row in text["loops"]:
        row["origin"] = HOSTILE
        if not row["accepted"]:
            row["reason"] = HOSTILE
    text["seconds"][HOSTILE] = 1.0
    text["report"]["memory_mb"] = {HOSTILE: {"resident": "many"}, "loops": 3}
    text["report"]["empty"] = [HOSTILE]
    text["report"]["network"] = {"summary": HOSTILE}
    text["report"]["made_by"] = {
        "device": HOSTILE,
        "version": HOSTILE,
        "settings": {HOSTILE: HOSTILE, "device": ["a"]},
    }
    (folder / "snapshot.json").write_text(json.dumps(text))
    page = tmp_path / "report.html"
    assert main(["report", str(refined_copy), "--out", str(page)]) == 0
    (tmp_path / "chromium").mkdir()
    with Chromium(tmp_path / "chromium") as browser:
        browser.open(page)
        assert browser.messages == [] and browser.requests == []
        assert browser.run("window.bad") is None
        assert browser.run("document.querySelectorAll('img[onerror]').length") == 0
        assert browser.run("document.body.innerText.split('onerror').length") > 6
        assert browser.run("document.querySelector('.warning').textContent") == HOSTILE
