"""Publish snapshots and states as topics, TF and diagnostics."""
