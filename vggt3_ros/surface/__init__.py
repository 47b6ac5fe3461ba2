"""Depth at corrected poses to a surface: point map, occupancy grid, files for other tools."""
