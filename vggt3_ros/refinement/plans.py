"""Refinement plans that need less memory, used one after another when memory runs out."""

from dataclasses import replace

from vggt3_ros.config import BackendConfig

SMALLEST_PLAN = 4  # how often a plan can be shrunk


def shrunk(config: BackendConfig, level: int) -> BackendConfig:
    """Return a config that needs less memory; level 0 returns `config` itself.

    Each level halves what is cached, kept in the scene memory and published. From level 2 on the
    map is coarser, too.
    """
    if not level:
        return config
    share, coarser = 0.5**level, 1.5 ** (level - 1)
    return replace(
        config,
        resources=replace(
            config.resources, frame_cache_mb=max(16, int(config.resources.frame_cache_mb * share))
        ),
        memory=replace(config.memory, max_slots=max(10_000, int(config.memory.max_slots * share))),
        map=replace(
            config.map,
            voxel_size=min(1.0, config.map.voxel_size * coarser),
            max_points=max(1000, int(config.map.max_points * share)),
        ),
        network=replace(
            config.network, max_keyframes=max(3, int(config.network.max_keyframes * share))
        ),
    )


def plan_text(config: BackendConfig) -> str:
    """Describe what :func:`shrunk` changes, for users."""
    return (
        f"{config.resources.frame_cache_mb} MB of features, {config.memory.max_slots} slots, "
        f"voxels of {100 * config.map.voxel_size:.2g} cm, {config.map.max_points} points"
    )
