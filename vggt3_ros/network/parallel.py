"""Images distributed over processes (torchrun): what the processes of one map() exchange.

Rank 0 holds the image that defines the world frame; the others hold any share of the rest. For the
fast weights the ranks exchange three gradients per layer and step (3.1 MB at full size), and the
camera tokens once.
"""

import os
from typing import Protocol

import torch
import torch.distributed as distributed
from torch import Tensor


class ImageGroup(Protocol):
    """The processes that share the images of one map()."""

    rank: int
    size: int

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over the ranks, computed in place."""

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks [all rows, ...] in rank order; ranks may hold different
        numbers of rows.
        """

    def total_count(self, count: int) -> int:
        """Return the sum of an integer over the ranks."""


class Alone:
    """A group of one process."""

    rank = 0
    size = 1

    def total(self, value: Tensor) -> Tensor:
        return value

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def total_count(self, count: int) -> int:
        return count


class DistributedImages:
    """The ranks of a torch.distributed process group, which must be initialised first (nccl on
    GPUs, gloo on CPUs).
    """

    def __init__(self, group: distributed.ProcessGroup | None = None):
        self._group = group
        self.rank = distributed.get_rank(group)
        self.size = distributed.get_world_size(group)

    def total(self, value: Tensor) -> Tensor:
        distributed.all_reduce(value, group=self._group)
        return value

    def gather(self, rows: Tensor) -> Tensor:
        counts = self._counts(rows.shape[0], rows.device)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: rows.shape[0]] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(gathered, padded, group=self._group)
        return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])

    def total_count(self, count: int) -> int:
        device = "cuda" if distributed.get_backend(self._group) == "nccl" else "cpu"
        return sum(self._counts(count, torch.device(device)))

    def _counts(self, count: int, device: torch.device) -> list[int]:
        mine = torch.tensor([count], device=device)
        counts = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(counts, mine, group=self._group)
        return [int(value) for value in counts]


def join_torchrun() -> tuple[DistributedImages, torch.device]:
    """Join the processes that torchrun started: one GPU each over nccl if there are GPUs, else
    CPUs over gloo.
    """
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        device = torch.device("cpu")
        distributed.init_process_group("gloo")
    return DistributedImages(), device


def shard(count: int, rank: int, size: int) -> slice:
    """Return this rank's range when ``count`` images are split in order and as evenly as possible;
    every rank gets at least one.

    Raise ValueError if there are fewer images than ranks.
    """
    if count < size:
        raise ValueError(
            f"{count} images cannot be split over {size} processes: each needs at least one"
        )
    return slice(count * rank // size, count * (rank + 1) // size)
