"""A memory folded from rendered keyframes."""

from vggt3_ros.memory.folding import Folding, empty

MANY = 10**6


def folded(frames, poses, memory=None, most=MANY, density=MANY):
    folding = Folding(empty("cpu") if memory is None else memory, 6.0)
    for frame, pose in zip(frames, poses):
        folding.add(frame, pose)
    return folding.memory(most, density)
