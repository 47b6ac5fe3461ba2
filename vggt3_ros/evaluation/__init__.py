"""Errors of trajectories, maps and localizations against ground truth, and their reports."""
