"""A TUM folder of a small sequence that every contender can map."""

import photo_corner
import pytest

from vggt3_ros.datasets.tum import write_tum


@pytest.fixture(scope="session")
def peers_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers") / "corner"
    write_tum(folder, photo_corner.sequence())
    return folder
