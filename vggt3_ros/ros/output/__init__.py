"""Snapshots and states to topics, TF and diagnostics."""
