"""Keyframes to corrected poses: loops are found and verified, and a pose graph is solved with
them.
"""
