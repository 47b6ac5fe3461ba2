"""The sections of the page, each a function of the Facts."""

from xml.etree.ElementTree import Element

from vggt3_ros.evaluation.report_page.elements import Child, element


def section(name: str, title: str, *content: Child) -> Element:
    """Return a section with the id `name`."""
    return element("section", element("h2", title), *content, id=name)


def absent(name: str, title: str, why: str) -> Element:
    """Return a section of one sentence: what it would show is not known."""
    return section(name, title, element("p", why, class_="absent"))


def legend(**entries: str) -> Element:
    """Return what lines are called: {class in the style sheet: text}."""
    items = (
        element("span", element("i", class_=f"key {name}"), text) for name, text in entries.items()
    )
    return element("p", *items, class_="legend")
