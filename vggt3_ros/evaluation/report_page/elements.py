"""HTML and SVG elements. Text and attributes are escaped when they are written, wherever they come
from.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

from vggt3_ros.system import strict_json

Child = Element | str | None


def element(tag: str, *children: Child, **attributes: object) -> Element:
    """Return <tag attribute="..."> with children: elements, text, None for nothing. An attribute's
    name loses an underscore at its end, others become hyphens: class_, data_value, stroke_width.
    A value of None leaves the attribute out.
    """
    made = Element(
        tag,
        {
            name.removesuffix("_").replace("_", "-"): str(value)
            for name, value in attributes.items()
            if value is not None
        },
    )
    return add(made, *children)


def add(parent: Element, *children: Child) -> Element:
    """Append children to an element and return it."""
    for child in children:
        if isinstance(child, str):
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + child
            else:
                parent.text = (parent.text or "") + child
        elif child is not None:
            parent.append(child)
    return parent


def figure(name: str, value: float, text: str) -> Element:
    """Return a number for people that tells its exact value: `name` is its place in the result of
    an evaluation, such as corrected.ate_m.
    """
    return element("span", text, data_figure=name, data_value=repr(float(value)))


def table(
    head: Sequence[str], rows: Iterable[Iterable[Child | float]], **attributes: object
) -> Element:
    """Return a table; a cell is an element, text, or a number, which is shown with up to four
    significant digits.
    """
    body = element("tbody")
    for row in rows:
        add(body, element("tr", *(_cell(cell) for cell in row)))
    first = [cell.get("class") for cell in body[0]] if len(body) else []
    kinds = first + [None] * len(head)
    titles = element(
        "tr", *(element("th", title, scope="col", class_=kind) for title, kind in zip(head, kinds))
    )
    return element(
        "div",
        element("table", element("thead", titles), body, **attributes),
        class_="scroll",
    )


def _cell(content: Child | float) -> Element:
    if isinstance(content, (int, float)):
        shown = f"{content:,}" if isinstance(content, int) else f"{content:.4g}"
        return element("td", shown, class_="number", data_value=repr(content))
    return element("td", content)


def data_block(name: str, value: object) -> Element:
    """Return JSON that a script of the page reads by the id `name`; nothing in it can end the
    block.
    """
    text = strict_json.dumps(value, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return element("script", text, id=name, type="application/json")


def written(page: Element) -> bytes:
    """Return the element as an HTML document in UTF-8; what is no character becomes "?"."""
    text = ElementTree.tostring(page, encoding="unicode", method="html")
    return ("<!DOCTYPE html>\n" + text + "\n").encode("utf-8", "replace")
