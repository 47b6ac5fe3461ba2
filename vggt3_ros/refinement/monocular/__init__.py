"""Keyframes without a depth camera: sparse structure from motion, a bundle adjustment, dense
depth.
"""
