"""What the parts of vggt3 benchmark share."""

import argparse
import json

import pytest

from vggt3_ros.cli.benchmark.rows import add_row_arguments, numbers, rendered_or_opened, show


class Bars:
    closed = 0

    def close(self):
        self.closed += 1


def test_numbers_are_parsed_in_their_order():
    assert numbers("32,64,128") == [32, 64, 128] and numbers("7") == [7]
    assert numbers("4,1", most=4) == [4, 1]


@pytest.mark.parametrize("text", ["", "a", "3,-1", "0", "1,,2", "1.5", "5"])
def test_what_are_no_numbers_is_said_with_the_bounds(text):
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 4") as refused:
        numbers(text, most=4)
    assert f"'{text}'" in str(refused.value)


def test_rows_are_printed_as_they_come_with_the_bars_out_of_the_way(capsys):
    bars, printed = Bars(), []

    def measured():
        for k in range(3):
            printed.append(capsys.readouterr().out)
            yield {"k": k}

    show(measured(), lambda row: f"row {row['k']}", argparse.Namespace(json=False), bars)
    printed.append(capsys.readouterr().out)
    assert printed == ["", "row 0\n", "row 1\n", "row 2\n"] and bars.closed == 3


def test_json_is_one_list_at_the_end(capsys):
    show(iter([{"k": 0}, {"k": 1}]), None, argparse.Namespace(json=True), Bars())
    assert json.loads(capsys.readouterr().out) == [{"k": 0}, {"k": 1}]


def test_the_arguments_of_every_part():
    parser = argparse.ArgumentParser()
    add_row_arguments(parser, "memory.density=100")
    parsed = parser.parse_args(["--set", "a=1", "--set", "b=2", "--json"])
    assert parsed.set == ["a=1", "b=2"] and parsed.json and not parsed.quiet
    assert "memory.density=100" in parser.format_help()


def test_a_data_set_without_truth_is_refused(monkeypatch):
    from vggt3_ros.datasets import dataset

    monkeypatch.setattr(
        dataset, "open_dataset", lambda path, options: argparse.Namespace(groundtruth=None)
    )
    with pytest.raises(ValueError, match="PATH has no ground truth"):
        rendered_or_opened("PATH")


def test_rendered_data_sets_are_named_not_opened(monkeypatch):
    from vggt3_ros.datasets.synthetic import apartment

    monkeypatch.setattr(apartment, "sequence", lambda **options: ("apartment", options))
    monkeypatch.setattr(apartment, "twin_rooms", lambda **options: ("twins", options["come_back"]))
    assert rendered_or_opened("apartment") == ("apartment", {"queries": 0})
    assert rendered_or_opened("twins") == ("twins", True)
