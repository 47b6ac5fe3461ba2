"""Scores of trajectories, maps and localizations against truth, and how they are reported."""
