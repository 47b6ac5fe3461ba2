"""Rendering of the apartment and the homes, whose ground truth is exact."""
