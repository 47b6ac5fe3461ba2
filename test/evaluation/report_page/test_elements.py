"""Text from data stays text, whatever it holds."""

from html.parser import HTMLParser

import pytest

from vggt3_ros.evaluation.report_page.elements import data_block, element, figure, table, written

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a & b < c > d ' e",
    "<!--",
    "\ud800 alone",
    "]]>\u2028",
]


class Read(HTMLParser):
    """Tags with their attributes and all text of an HTML document."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(content.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_text_and_attributes_are_read_back_as_they_were(text):
    page = Read(written(element("p", text, title=text)))
    shown = text.replace("\ud800", "?")
    assert page.tags == [("p", {"title": shown})] and page.text.strip("\n") == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_ends_a_data_block(text):
    page = Read(written(element("body", data_block("facts", {text: [text]}))))
    assert [tag for tag, _ in page.tags] == ["body", "script"]
    import json

    assert json.loads(page.text) == {text: [text]}


def test_a_table_tells_exact_numbers_beside_what_it_shows():
    page = Read(written(table(("a", "b"), [(1.23456789, figure("x.y", 0.0070123, "0.70 cm"))])))
    values = [a["data-value"] for _, a in page.tags if "data-value" in a]
    assert (
        values == ["1.23456789", "0.0070123"] and "1.235" in page.text and "0.70 cm" in page.text
    )
