"""Keyframes, sessions and snapshots on disk: the contract between the node, the worker, and the
next run. No torch.
"""
