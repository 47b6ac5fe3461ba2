"""The whole network: images to cameras, depth and points, and to a scene state that locates new
images.

    network = load_checkpoint("nvidia/vgg-ttt", device="cuda", dtype=torch.bfloat16)
    predictions, scene = network.map(images, depth_frames=range(0, len(images), 4))
    answer = network.query(image[None], scene)

The module holds parameters only. ``map`` and ``query`` do not change it and allocate their own
work memory, so any number of them may run concurrently in different threads.
"""

import hashlib
import logging
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from .aggregator import Aggregator
from .config import GlobalAttention, NetworkConfig
from .global_blocks import FastWeightBlock, SoftmaxBlock
from .heads.camera import CameraHead
from .heads.dense import DenseHead, depth_and_confidence, points_and_confidence
from .heads.streaming import DECODE_COST, DenseStream
from .layout import TokenLayout
from .map_pass import ImageBatch, MapPass, TokenObserver, chunks, load_images, query_pass
from .memory_plan import (
    MemoryPlan,
    PassShape,
    free_memory,
    host_free_memory,
    offload_placement,
    plan_pass,
)
from .parallel import Alone, ImageGroup
from .progress import Progress
from .scratch import Scratch
from .values import DenseOutput, Predictions, SceneState

log = logging.getLogger(__name__)

DENSE_OUTPUTS = ("depth", "points")
_ACTIVATIONS = {"depth": depth_and_confidence, "points": points_and_confidence}


class Vggt3(nn.Module):
    """VGG-T³ (fast weights) or VGGT (softmax), depending on the configuration. Parameter names and
    shapes equal those of the released checkpoints.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.depth_head = DenseHead(config, outputs=2)
        self.point_head = DenseHead(config, outputs=4)
        self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.aggregator.camera_token.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the trunk; the heads may use a wider one."""
        return self.aggregator.camera_token.dtype

    def fingerprint(self) -> str:
        """Return an identifier of the network that a scene state belongs to, from the
        configuration and a sample of the weights. It does not depend on the dtype.
        """
        last = self.aggregator.global_blocks[-1]
        assert isinstance(last, FastWeightBlock | SoftmaxBlock)
        sample = torch.cat((self.aggregator.camera_token.flatten(), last.attn.qkv.weight[0]))
        weights = sample.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()
        return hashlib.sha256(repr(self.config).encode() + weights).hexdigest()[:16]

    def plan(
        self,
        image_count: int,
        size: tuple[int, int],
        dense_frames: int = 0,
        dense: Collection[str] = ("depth",),
        memory_limit: int | None = None,
    ) -> MemoryPlan:
        """Return the memory plan of a map() on images of ``size`` (height, width) pixels.

        ``memory_limit``: upper bound in bytes on the device memory to use. Raise NotEnoughMemory
        if not even one image at a time fits.
        """
        shape = self._shape(image_count, size, dense_frames, dense)
        free = free_memory(self.device)
        return plan_pass(shape, self.device, min(free, memory_limit or free), host_free_memory())

    @torch.inference_mode()
    def map(
        self,
        images: ImageBatch,
        *,
        depth_frames: Sequence[int] | None = None,
        dense: Collection[str] = ("depth",),
        inner_steps: int | None = None,
        memory_limit: int | None = None,
        plan: MemoryPlan | None = None,
        progress: Progress | None = None,
        group: ImageGroup | None = None,
        observers: Sequence[TokenObserver] = (),
    ) -> tuple[Predictions, SceneState | None]:
        """Map N images at once; the first defines the world frame.

        - images: [N, 3, H, W], float in 0..1 or uint8, both sides multiples of 14. Any object that
          returns such a tensor or array when sliced will do, so that a loader need not hold all
          images.
        - depth_frames: indices of the images that get dense outputs, in any order; none by default.
        - dense: the dense outputs, from DENSE_OUTPUTS.
        - inner_steps: updates of the fast weights; by default the released code's number for N
          images.
        - memory_limit: bytes of device memory to plan for; by default what is free.
        - plan: used instead of a computed plan. On out-of-memory the pass restarts with a smaller
          plan (single process only).
        - progress: reports progress and cancels; raises Cancelled.
        - group: the processes that share the images. ``images`` and ``depth_frames`` are then those
          of this process, the first image of rank 0 defines the world frame, and all ranks return
          the same scene.
        - observers: see TokenObserver.

        Return the predictions and the scene state, which is None for softmax attention. Raise
        ValueError on bad images, frames or outputs, NotEnoughMemory, or Cancelled.
        """
        group = group or Alone()
        progress = progress or Progress()
        count = len(images)
        size = _image_size(images)
        frames = sorted(set(depth_frames or ()))
        if frames and not (frames[0] >= 0 and frames[-1] < count):
            raise ValueError(f"depth_frames {frames[0]}..{frames[-1]} exceed the {count} images")
        dense = tuple(name for name in DENSE_OUTPUTS if name in dense) if frames else ()
        layout = self.aggregator.layout(*size)
        steps = (
            self.config.steps_for(group.total_count(count)) if inner_steps is None else inner_steps
        )
        if steps < 1:
            raise ValueError(f"inner_steps must be at least 1, got {steps}")
        plan = plan or self.plan(count, size, len(frames), dense, memory_limit)
        log.info("map of %d images: %s", count, plan.describe())
        while True:
            try:
                return self._map(
                    images, size, layout, frames, dense, steps, plan, progress, group, observers
                )
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if group.size > 1 or not _is_out_of_memory(error):
                    raise
                # Python's own MemoryError has no text
                message = (str(error).splitlines() or [type(error).__name__])[0]
            offload = offload_placement(
                self.device, self._shape(count, size, len(frames), dense), host_free_memory()
            )
            plan = plan.reduced(offload)
            log.warning("out of memory (%s); retrying with %s", message, plan.describe())
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _map(
        self,
        images: ImageBatch,
        size: tuple[int, int],
        layout: TokenLayout,
        frames: Sequence[int],
        dense: Collection[str],
        steps: int,
        plan: MemoryPlan,
        progress: Progress,
        group: ImageGroup,
        observers: Sequence[TokenObserver],
    ) -> tuple[Predictions, SceneState | None]:
        count = len(images)
        progress.start(count * self._image_blocks() + len(frames) * len(dense) * DECODE_COST)
        scratch = Scratch(self.device, self.dtype)
        streams = self._dense_streams(frames, dense, layout, plan, progress)
        watchers = [*observers, *(stream.observe for stream in streams.values())]
        trunk = MapPass(self.aggregator, layout, plan, scratch, group, progress, watchers)
        fast_weights, camera_tokens = trunk.run(images, steps)

        all_camera_tokens = group.gather(camera_tokens)
        encoding = self.camera_head(all_camera_tokens, self._head_scratch(), progress)
        first = (
            group.gather(torch.tensor([count], device=self.device))[: group.rank].sum().item()
            if group.size > 1
            else 0
        )
        predictions = _predictions(encoding[first : first + count], size, frames, streams)
        if fast_weights is None:
            return predictions, None
        return predictions, SceneState(fast_weights, all_camera_tokens, self.fingerprint())

    @torch.inference_mode()
    def query(
        self,
        images: ImageBatch,
        scene: SceneState,
        *,
        depth_frames: Sequence[int] | None = None,
        dense: Collection[str] = ("depth",),
        memory_limit: int | None = None,
        progress: Progress | None = None,
        observers: Sequence[TokenObserver] = (),
    ) -> Predictions:
        """Place images [Q, 3, H, W] in a mapped scene, each independently, without changing the
        scene. Arguments are as in map().

        Apart from the camera head, the cost per image does not depend on the number of mapped
        images. Raise ValueError if another network made the scene or if the network has no fast
        weights.
        """
        if self.config.attention is not GlobalAttention.FAST_WEIGHTS:
            raise ValueError("a network with softmax attention has no scene state to query")
        if scene.network != self.fingerprint():
            raise ValueError("the scene state was made by another network")
        progress = progress or Progress()
        size = _image_size(images)
        frames = sorted(set(depth_frames or ()))
        if frames and not (frames[0] >= 0 and frames[-1] < len(images)):
            raise ValueError(
                f"depth_frames {frames[0]}..{frames[-1]} exceed the {len(images)} images"
            )
        dense = tuple(name for name in DENSE_OUTPUTS if name in dense) if frames else ()
        layout = self.aggregator.layout(*size)
        plan = self.plan(len(images), size, len(frames), dense, memory_limit)
        progress.start(len(images) * self._image_blocks() + len(frames) * len(dense) * DECODE_COST)

        scratch = Scratch(self.device, self.dtype)
        streams = self._dense_streams(frames, dense, layout, plan, progress)
        watchers = [*observers, *(stream.observe for stream in streams.values())]
        scene = scene.to(self.device)
        encodings = []
        for part in chunks(len(images), plan.chunk_images):
            batch = load_images(images, part, self.device, self.dtype)
            tokens = query_pass(
                self.aggregator,
                batch,
                scene.fast_weights,
                layout,
                scratch,
                progress,
                part,
                watchers,
            )
            # One camera-head call per query: within a call all tokens attend to each other.
            for token in tokens:
                together = torch.cat(
                    (scene.camera_tokens, token[None].to(scene.camera_tokens.dtype))
                )
                encodings.append(self.camera_head(together, self._head_scratch(), progress)[-1])
        return _predictions(torch.stack(encodings), size, frames, streams)

    def _shape(
        self, count: int, size: tuple[int, int], dense_frames: int, dense: Collection[str]
    ) -> PassShape:
        head_dtype = self.depth_head.norm.weight.dtype
        heads = len(dense) if dense_frames else 0
        return PassShape(self.config, count, *size, self.dtype, head_dtype, heads, dense_frames)

    def _image_blocks(self) -> int:
        """Return the number of transformer blocks that an image passes through."""
        return self.config.encoder_shape.depth + 2 * self.config.depth

    def _head_scratch(self) -> Scratch:
        return Scratch(self.device, self.camera_head.embed_pose.weight.dtype)

    def _dense_streams(
        self,
        frames: Sequence[int],
        dense: Collection[str],
        layout: TokenLayout,
        plan: MemoryPlan,
        progress: Progress,
    ) -> dict[str, DenseStream]:
        heads = {"depth": self.depth_head, "points": self.point_head}
        return {
            name: DenseStream(
                name, heads[name], _ACTIVATIONS[name], frames, self.config, layout, plan.projections,
                plan.decode_images, progress,
            )
            for name in dense
        }  # fmt: skip


def _predictions(
    encoding: Tensor, size: tuple[int, int], frames: Sequence[int], streams: dict[str, DenseStream]
) -> Predictions:
    outputs = {
        name: DenseOutput(tuple(frames), *stream.output()) for name, stream in streams.items()
    }
    return Predictions(encoding.cpu(), size, **outputs)


def _image_size(images: ImageBatch) -> tuple[int, int]:
    if len(images) == 0:
        raise ValueError("no images")
    shape = tuple(images[0:1].shape)
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"images must be [N, 3, H, W]; one image has shape {list(shape[1:])}")
    return shape[2], shape[3]


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an out-of-memory error; the CPU allocator's is a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
