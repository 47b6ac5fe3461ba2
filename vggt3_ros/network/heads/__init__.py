"""Heads that turn the aggregator's tokens into cameras, depth and points."""
