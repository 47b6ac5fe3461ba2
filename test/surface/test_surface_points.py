"""Points that are brought up to date where the TSDF changed."""

from walls import same_surface, wall

from vggt3_ros.config import MapConfig
from vggt3_ros.geometry import se3
from vggt3_ros.surface.fusion import Surface
from vggt3_ros.surface.surface_points import SurfacePoints
from vggt3_ros.surface.voxel_blocks import held_blocks


def test_the_points_brought_up_to_date_here_and_there_are_those_of_the_whole_surface():
    config = MapConfig(voxel_size=0.02)
    # a long wall, each sees a part of it
    poses = [se3.exp([0.9 * k, 0.01 * k, 0, 0, 0, 0]) for k in range(12)]
    surface, rest = Surface(config), lambda k: 2.013 + 0.03 * (k % 2)
    for k, pose in enumerate(poses[:10]):
        surface.add(wall(rest(k), pose), pose)
        surface.add(wall(rest(k) + 0.004, pose), pose)
    whole = len(surface.cloud())
    surface.remove(wall(rest(0), poses[0]), poses[0])  # of what two saw one is left: too few
    for k in (10, 10, 11):
        surface.add(wall(rest(k), poses[k]), poses[k])
    partly = surface.cloud()
    fresh = SurfacePoints(config).update(surface._grid, held_blocks(surface._grid))
    same_surface(partly, fresh, 0.02)
    assert 0 < abs(len(partly) - whole) < 0.5 * whole
    same_surface(surface.cloud(), fresh, 0.02)
