"""The configuration, and what ran on which device."""

from xml.etree.ElementTree import Element

from vggt3_ros.config import BackendConfig
from vggt3_ros.evaluation.report_page.elements import Child, element, table
from vggt3_ros.evaluation.report_page.facts import Facts
from vggt3_ros.evaluation.report_page.sections import section


def setting(facts: Facts) -> Element:
    """Return the section of settings, device and machine."""
    return section(
        "setting",
        "Configuration and device",
        *_device(facts),
        *_settings(facts),
    )


def _device(facts: Facts) -> list[Child]:
    machine = facts.machine
    network = facts.snapshot.report.get("network")
    rows: list[tuple[Child, ...]] = []
    if facts.running_on:
        rows.append(("refined on", f"{facts.running_on} (version {facts.version})"))
    if isinstance(network, dict) and "summary" in network:
        rows.append(("network", str(network["summary"])))
    if facts.scale != 1:
        larger = f"{facts.scale:.2g} times as large as a room"
        rows.append(("scene", f"{larger}: lengths left at their defaults grew with it"))
    rows.append(
        (
            "machine" if facts.evaluation else "this page was made on",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['gpu'] or 'no GPU'}, load {machine['load']}",
        )
    )
    libraries = machine["libraries"]
    rows.append(
        (
            "software",
            ", ".join(
                [f"Python {machine['python']}", *(f"{k} {v}" for k, v in libraries.items())]
            ),
        )
    )
    rows.append(("vggt3_ros", f"{machine['version']}, commit {machine['commit'] or 'unknown'}"))
    absent = (
        []
        if facts.running_on
        else [element("p", "The snapshot does not say on what it was refined.", class_="absent")]
    )
    return [*absent, table(("", ""), rows)]


def _settings(facts: Facts) -> list[Child]:
    if facts.settings is None:
        return [
            element(
                "p", "The snapshot does not say with which settings it was made.", class_="absent"
            )
        ]
    defaults = BackendConfig().flat()
    rows = [
        (
            name,
            str(value),
            str(defaults[name][0]) if name in defaults else "",
            str(defaults[name][1]["doc"]) if name in defaults else "this version does not know it",
        )
        for name, value in facts.settings.items()
    ]
    changed: Child = (
        table(("parameter", "value", "default", ""), rows, class_="sortable", id="settings")
        if rows
        else element("p", "All settings are the defaults.")
    )
    every = [
        (name, str(value), str(meta["unit"] or ""), str(meta["doc"]))
        for name, (value, meta) in facts.config.flat().items()
    ]
    told: list[Child] = [element("h3", "Settings that are not the defaults"), changed]
    if not facts.settings_known:
        return told
    return [
        *told,
        element(
            "details",
            element("summary", f"All {len(every)} settings"),
            table(("parameter", "value", "unit", ""), every, class_="sortable"),
        ),
    ]
