"""Weights that are known to fit, and what their publishers allow. None are part of this package;
naming them here grants nothing.

As their pages on the hub say it at the time of writing; the page of the weights decides. The code
of the networks may be under other terms than the weights.
"""

import re
from dataclasses import dataclass

NON_COMMERCIAL, FREE = "not for commercial use", "commercial use allowed"
CONDITIONAL, UNSURE = (
    "commercial use under the publisher's conditions",
    "ask before commercial use",
)


@dataclass(frozen=True)
class Weights:
    """hub_id: owner/name; what: the network; licence: its name; use: NON_COMMERCIAL, CONDITIONAL,
    UNSURE or FREE.
    """

    hub_id: str
    what: str
    licence: str
    use: str

    def __str__(self) -> str:
        return f"{self.hub_id}: {self.licence} ({self.use})"


VGG_T3 = Weights("nvidia/vgg-ttt", "VGG-T³", "NVIDIA OneWay Noncommercial", NON_COMMERCIAL)
VGGT = Weights("facebook/VGGT-1B", "VGGT", "CC-BY-NC-4.0", NON_COMMERCIAL)
VGGT_COMMERCIAL = Weights(
    "facebook/VGGT-1B-Commercial",
    "VGGT, the same architecture and code",
    "VGGT licence with an acceptable use policy, gated",
    CONDITIONAL,
)
LINGBOT = Weights(
    "robbyant/lingbot-map",
    "LingBot-Map; its stage 1 loads as VGGT, with network.pose_convention: world_from_camera",
    "Apache-2.0 by its repository",
    UNSURE,
)
MAP_ANYTHING = Weights("facebook/map-anything-apache", "MapAnything", "Apache-2.0", FREE)
MAP_ANYTHING_RESEARCH = Weights(
    "facebook/map-anything", "MapAnything, more training data", "CC-BY-NC-4.0", NON_COMMERCIAL
)
DEPTH_ANYTHING = tuple(
    [Weights(f"depth-anything/DA3-{size}", "Depth Anything 3", "Apache-2.0", FREE) for size in ("SMALL", "BASE")]
    + [Weights(f"depth-anything/{name}", "Depth Anything 3", "CC-BY-NC-4.0", NON_COMMERCIAL)
       for name in ("DA3-LARGE", "DA3-LARGE-1.1", "DA3-GIANT", "DA3-GIANT-1.1", "DA3NESTED-GIANT-LARGE", "DA3NESTED-GIANT-LARGE-1.1")]
)  # fmt: skip
PI3X = Weights("yyfz233/Pi3X", "Pi3X", "CC-BY-NC-4.0", NON_COMMERCIAL)

FOR_CHECKPOINT = (VGG_T3, VGGT, VGGT_COMMERCIAL, LINGBOT)  # what network.checkpoint may name
# what it may name beside network.adapter
FOR_ADAPTERS = (MAP_ANYTHING, MAP_ANYTHING_RESEARCH, *DEPTH_ANYTHING, PI3X)
_KNOWN = {weights.hub_id.lower(): weights for weights in FOR_CHECKPOINT + FOR_ADAPTERS}
# the folder the hub's cache keeps a repository in
_IN_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


def licence_of(spec: str) -> str:
    """What is known of the licence of weights by the name they were given: hub id[@revision], or a
    path in the hub's cache.

    A file says nothing of its licence: that of any other path is "unknown", and is never guessed
    from its tensors.
    """
    name = str(spec)
    cached = _IN_CACHE.search(name)
    hub_id = f"{cached[1]}/{cached[2]}" if cached else name.partition("@")[0]
    known = _KNOWN.get(hub_id.lower())
    return (
        f"{known.licence}, {known.use}"
        if known
        else "licence unknown: that of whoever published the weights holds"
    )


def fitting(softmax: bool) -> tuple[Weights, ...]:
    """Known weights with the architecture of a checkpoint: VGGT's (softmax attention) or
    VGG-T³'s.
    """
    return (VGGT, VGGT_COMMERCIAL, LINGBOT) if softmax else (VGG_T3,)
