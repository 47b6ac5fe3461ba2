"""Plans that need less memory: each smaller than the one before, and valid."""

from itertools import pairwise

from vggt3_ros.config import BackendConfig
from vggt3_ros.refinement import plans


def test_each_plan_is_smaller_than_the_one_before_and_valid():
    config = BackendConfig()
    assert plans.shrunk(config, 0) == config
    shrinking = [plans.shrunk(config, level) for level in range(plans.SMALLEST_PLAN + 1)]
    for before, after in pairwise(shrinking):
        assert (
            after.resources.frame_cache_mb < before.resources.frame_cache_mb
            and after.memory.max_slots < before.memory.max_slots
        )
        assert after.map.voxel_size >= before.map.voxel_size and plans.plan_text(
            after
        ) != plans.plan_text(before)
    tiny = BackendConfig.from_flat(
        {"resources.frame_cache_mb": 16, "memory.max_slots": 10_000, "map.voxel_size": 1.0}
    )
    plans.shrunk(tiny, plans.SMALLEST_PLAN)  # stays within the ranges
