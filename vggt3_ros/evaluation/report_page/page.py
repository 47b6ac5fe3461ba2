"""The page: its head, which forbids everything but what is in it, its sections, one file."""

import base64
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from xml.etree.ElementTree import Element

from vggt3_ros.evaluation.report_page.elements import data_block, element, written
from vggt3_ros.evaluation.report_page.facts import Facts, gather
from vggt3_ros.evaluation.report_page.pictures import png
from vggt3_ros.evaluation.report_page.sections.cost import cost
from vggt3_ros.evaluation.report_page.sections.localization import localization, queries
from vggt3_ros.evaluation.report_page.sections.loops import loops
from vggt3_ros.evaluation.report_page.sections.memory import memory
from vggt3_ros.evaluation.report_page.sections.overview import overview
from vggt3_ros.evaluation.report_page.sections.setting import setting
from vggt3_ros.evaluation.report_page.sections.trajectory import error, trajectory
from vggt3_ros.evaluation.report_page.views import from_above
from vggt3_ros.evaluation.sequence import Evaluation
from vggt3_ros.store import durable
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot


def write_page(
    path: str | Path,
    title: str,
    store: KeyframeStore,
    snapshot: Snapshot,
    evaluation: Evaluation | None = None,
) -> int:
    """Write the page of a Snapshot in its store; return its size in bytes. The file is the old one
    or the new one at every moment.

    evaluation: what the snapshot was scored with; without one the page leaves out what only the
    truth tells. ValueError where the snapshot holds nothing or its scene memory cannot be read.
    """
    content = written(page(gather(title, store, snapshot, evaluation)))
    durable.write_file(path, content)
    return len(content)


def page(facts: Facts) -> Element:
    """Return the whole HTML document."""
    points = facts.cloud.points.astype(float)
    view = from_above(points, facts.snapshot.T_map_cam, facts.scale)
    picture = png(view.drawn(points, facts.cloud.colors, facts.spacing))
    sections = [
        trajectory(facts, view, picture),
        error(facts),
        loops(facts, view, picture),
        cost(facts),
        localization(facts),
        queries(facts),
        memory(facts, view),
        setting(facts),
    ]
    contents = [element("a", s.findtext("h2") or "", href=f"#{s.get('id')}") for s in sections]
    blocks = [data_block("result", facts.evaluation.result)] if facts.evaluation else []
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return element(
        "html",
        _head(facts.title),
        element(
            "body",
            element(
                "main",
                overview(facts),
                element("nav", *contents),
                *sections,
                element("footer", f"Made {made} by vggt3_ros {facts.machine['version']}."),
            ),
            *blocks,
            element("script", _asset("page.js")),
        ),
        lang="en",
    )


def _head(title: str) -> Element:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", style),
    )


def _asset(name: str) -> str:
    return resources.files("vggt3_ros.evaluation.report_page").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    """Return what a Content-Security-Policy calls a script or a style sheet of this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
