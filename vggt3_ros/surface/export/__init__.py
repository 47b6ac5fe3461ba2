"""Export maps and trajectories to files for other tools: PLY, COLMAP, glTF, rerun."""

from vggt3_ros.surface.export.ply import write_ply

__all__ = ["write_ply"]
