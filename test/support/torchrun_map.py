"""Started twice by torchrun from test_parallel.py: maps its share of the images and writes what it
got.
"""

import sys
from pathlib import Path

import torch
from tiny_network import random_images, tiny_network

from vggt3_ros.network.parallel import join_torchrun, shard


def main(folder):
    group, device = join_torchrun()
    images = random_images(5)
    mine = shard(len(images), group.rank, group.size)
    results = {}
    for attention in ("ttt", "softmax"):
        network = tiny_network(attention).to(device)
        predictions, scene = network.map(images[mine], depth_frames=[1], group=group)
        results[attention] = {
            "pose": predictions.pose_encoding,
            "depth": predictions.depth.values,
            "fast weights": scene.fast_weights if scene else torch.zeros(1),
            "camera tokens": scene.camera_tokens if scene else torch.zeros(1),
        }
    torch.save(results, folder / f"rank{group.rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
