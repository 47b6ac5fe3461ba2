"""The command line as a whole: every command has help, errors are one line, exit statuses."""

import re

import pytest

from vggt3_ros.cli import main as cli
from vggt3_ros.cli.main import COMMANDS, build_parser, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: vggt3 {command}") and len(text) > 200


def test_the_overview_lists_all_of_them_with_a_line_each(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s+[a-z]", text, re.MULTILINE), command


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["evaluate"]])
def test_what_cannot_be_parsed_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "outcome, status, text",
    [
        (None, 0, ""),
        (1, 1, ""),
        (ValueError("the input is wrong"), 2, "vggt3: the input is wrong\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "vggt3: [Errno 2] No such file: 'x'\n"),
        (KeyboardInterrupt(), 130, "vggt3: stopped\n"),
    ],
)
def test_how_a_command_ends_is_its_exit_status(monkeypatch, capsys, outcome, status, text):
    def run(arguments):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    parser = build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    monkeypatch.setattr(
        parser, "parse_args", lambda argv: __import__("argparse").Namespace(run=run)
    )
    assert main(["anything"]) == status and capsys.readouterr().err == text


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def fail(argv):
        raise KeyError("a bug")

    parser = build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    monkeypatch.setattr(parser, "parse_args", fail)
    with pytest.raises(KeyError):
        main(["anything"])
