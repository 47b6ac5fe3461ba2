"""Refinement of keyframe poses: loops are proposed and verified, then a pose graph is solved with
them.
"""
