"""Only what is read from a bag needs a definition, and a standard type may lack its own."""

import sqlite3

import numpy as np
import pytest
from bags import Bag
from plain_bags import CAMERA, START, write_plain

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.geometry import se3

POSES = se3.exp(np.array([[0.03 * i, 0, 0, 0, 0, 0] for i in range(3)]))
EVERY = Options(every_frame=True)
FOREIGN = "my_msgs/msg/Battery"


def with_foreign_topic(path, definition, storage="sqlite3", digest="RIHS01_" + "0" * 64):
    def more(bag, i, stamp_ns):
        if i == 0:
            connection = bag._writer.add_connection(
                "/battery", FOREIGN, msgdef=definition, rihs01=digest
            )
            bag._writer.write(connection, stamp_ns, b"\0\1\0\0" + b"\0" * 4)

    return write_plain(path, POSES, more=more, storage=storage)


def change_definitions(path, **values):
    """SET what the values say WHERE the type is `of`."""
    of = values.pop("of")
    with sqlite3.connect(next(path.glob("*.db3"))) as database:
        database.execute(
            f"UPDATE message_definitions SET {', '.join(f'{name}=?' for name in values)} WHERE topic_type=?",
            (*values.values(), of),
        )
    database.close()


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize(
    "definition", ["float32 volts\n", "other_msgs/Missing inside\n", "this is no definition (\n"]
)
def test_a_topic_that_nobody_reads_may_have_any_definition(tmp_path, storage, definition):
    assert len(open_dataset(with_foreign_topic(tmp_path / "bag", definition, storage), EVERY)) == 3


def test_a_type_that_the_recorder_did_not_know_is_left_alone(tmp_path):
    path = with_foreign_topic(tmp_path / "bag", "float32 volts\n")
    change_definitions(path, encoding="unknown", encoded_message_definition="", of=FOREIGN)
    assert len(open_dataset(path, EVERY)) == 3


def test_a_type_that_the_recorder_did_not_know_is_left_alone_in_mcap(tmp_path):
    path = with_foreign_topic(tmp_path / "bag", "float32 volts\n", "mcap")
    file = next(path.glob("*.mcap"))
    data = file.read_bytes()
    at = data.index(FOREIGN.encode()) + len(FOREIGN)
    assert data[at : at + 11] == b"\x07\0\0\0ros2msg"
    file.write_bytes(
        data.replace(
            FOREIGN.encode() + b"\x07\0\0\0ros2msg", FOREIGN.encode() + b"\x07\0\0\0unknown"
        )
    )
    assert len(open_dataset(path, EVERY)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"encoded_message_definition": ""},
        {"encoding": "unknown", "encoded_message_definition": ""},
    ],
)
def test_a_standard_type_without_its_definition_is_that_of_ros(tmp_path, change):
    path = write_plain(tmp_path / "bag", POSES, storage="sqlite3")
    change_definitions(path, **change, of="sensor_msgs/msg/Image")
    sequence = open_dataset(path, EVERY)
    assert len(sequence) == 3 and sequence.keyframes[0].image.shape == (
        CAMERA.height,
        CAMERA.width,
        3,
    )


def test_what_is_read_and_cannot_be_is_named_with_topic_and_type(tmp_path):
    path = write_plain(tmp_path / "bag", POSES, storage="sqlite3")
    change_definitions(
        path, encoded_message_definition="float64 other\n", of="nav_msgs/msg/Odometry"
    )
    with pytest.raises(
        ValueError,
        match=r"all 3 messages on /odom are invalid; .*/odom \(nav_msgs/msg/Odometry\) .* does not match the recorded type hash",
    ):
        open_dataset(path, EVERY)


def test_a_keyframe_topic_without_a_definition_is_named(tmp_path):
    with Bag(tmp_path / "bag", "sqlite3") as bag:
        connection = bag._writer.add_connection(
            "/keyframes",
            "vggt3_ros/msg/Keyframe",
            msgdef="float32 x\n",
            rihs01="RIHS01_" + "0" * 64,
        )
        bag._writer.write(connection, START, b"\0\1\0\0" + b"\0" * 64)
    change_definitions(
        tmp_path / "bag",
        encoding="unknown",
        encoded_message_definition="",
        of="vggt3_ros/msg/Keyframe",
    )
    with pytest.raises(ValueError, match="the bag has no definition of vggt3_ros/msg/Keyframe"):
        open_dataset(tmp_path / "bag", EVERY)
