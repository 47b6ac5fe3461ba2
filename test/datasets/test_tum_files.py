"""Trajectory files as other tools write them: other units, a byte-order mark."""

import pytest

from vggt3_ros.datasets.tum_files import read_tracked_tum, read_trajectory_tum

SECONDS = 1305031102.0


@pytest.mark.parametrize(
    "text, unit",
    [
        ("1305031102000000000.000000", "nanoseconds"),
        ("1305031102000000000", "nanoseconds"),
        ("1305031102000000", "microseconds"),
        ("1305031102000", "milliseconds"),
        ("1.305031102e18", "nanoseconds"),
    ],
)
def test_other_units_are_recognised_and_said(tmp_path, caplog, text, unit):
    scale = {"nanoseconds": 10**8, "microseconds": 10**5, "milliseconds": 100}[unit]
    later = str(int(float(text)) + scale)
    (tmp_path / "t.txt").write_text(f"{text} 0 0 0 0 0 0 1\n{later} 1 0 0 0 0 0 1\n")
    stamps, poses = read_trajectory_tum(tmp_path / "t.txt")
    assert (
        stamps.tolist() == [1305031102 * 10**9, 1305031102 * 10**9 + 10**8] and poses[1, 0, 3] == 1
    )
    assert f"read as {unit}" in caplog.text


@pytest.mark.parametrize(
    "text, stamp_ns",
    [
        ("0", 0),
        ("12.5", 12_500_000_000),
        ("1305031102.175304001", 1_305_031_102_175_304_001),
        ("9000000000", 9 * 10**18),
    ],
)
def test_seconds_stay_seconds(tmp_path, caplog, text, stamp_ns):
    (tmp_path / "t.txt").write_text(f"{text} 0 0 0 0 0 0 1\n")
    assert read_trajectory_tum(tmp_path / "t.txt")[0].tolist() == [stamp_ns]
    assert not caplog.text


@pytest.mark.parametrize("first", ["# t\n", ""])
def test_a_byte_order_mark_is_no_field(tmp_path, first):
    (tmp_path / "t.txt").write_bytes(
        b"\xef\xbb\xbf" + f"{first}{SECONDS} 0 0 0 0 0 0 1\r\n".encode()
    )
    assert read_trajectory_tum(tmp_path / "t.txt")[0].tolist() == [int(SECONDS * 10**9)]


@pytest.mark.parametrize("stamp", ["inf", "nan", "1e30", "-1", "text"])
def test_what_is_no_stamp_is_named_by_its_line(tmp_path, stamp):
    (tmp_path / "t.txt").write_text(f"1.0 0 0 0 0 0 0 1\n{stamp} 0 0 0 0 0 0 1\n")
    with pytest.raises(ValueError, match="t.txt:2: "):
        read_trajectory_tum(tmp_path / "t.txt")


@pytest.mark.parametrize("lost", ["0 0 0 0 0 0 0", "nan nan nan nan nan nan nan"])
def test_lines_at_which_the_front_end_was_lost_are_left_out_and_counted(tmp_path, caplog, lost):
    (tmp_path / "t.txt").write_text(f"1.0 0 0 0 0 0 0 1\n2.0 {lost}\n3.0 5 0 0 0 0 0 1\n")
    stamps, poses, gone = read_tracked_tum(tmp_path / "t.txt")
    assert (
        stamps.tolist() == [10**9, 3 * 10**9]
        and poses[:, 0, 3].tolist() == [0, 5]
        and gone.tolist() == [2 * 10**9]
    )
    assert "1 of 3 lines have no pose, the first is line 2: tracking was lost there" in caplog.text
    (tmp_path / "t.txt").write_text(f"1.0 {lost}\n")
    with pytest.raises(ValueError, match="none of the 1 lines has a pose"):
        read_trajectory_tum(tmp_path / "t.txt")
