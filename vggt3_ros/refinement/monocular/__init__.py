"""Keyframes without a depth camera: sparse structure from motion, bundle adjustment, and dense
depth.
"""
