"""Weights that are known to load, and the licences under which their publishers offer them. None
are part of this package; listing them here grants no rights.

The licences are those stated on the hub pages at the time of writing; the current page of the
weights is authoritative. The code of these networks may be licensed differently from the weights.
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
    """Published weights. hub_id: owner/name; what: the network; licence: its name; use:
    NON_COMMERCIAL, CONDITIONAL, UNSURE or FREE.
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

FOR_CHECKPOINT = (VGG_T3, VGGT, VGGT_COMMERCIAL, LINGBOT)  # valid for network.checkpoint
# valid for network.checkpoint when network.adapter is set
FOR_ADAPTERS = (MAP_ANYTHING, MAP_ANYTHING_RESEARCH, *DEPTH_ANYTHING, PI3X)
_KNOWN = {weights.hub_id.lower(): weights for weights in FOR_CHECKPOINT + FOR_ADAPTERS}
# folder of a repository in the hub's cache
_IN_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


def licence_of(spec: str) -> str:
    """Return what is known of the licence of weights named by hub id[@revision], or by a path in
    the hub's cache.

    A file does not state its licence: for any other path the licence is "unknown". It is never
    guessed from the tensors.
    """
    name = str(spec)
    cached = _IN_CACHE.search(name)
    hub_id = f"{cached[1]}/{cached[2]}" if cached else name.partition("@")[0]
    known = _KNOWN.get(hub_id.lower())
    return (
        f"{known.licence}, {known.use}"
        if known
        else "licence unknown: the terms of the publisher of the weights apply"
    )


def fitting(softmax: bool) -> tuple[Weights, ...]:
    """Return the known weights of VGGT's architecture (``softmax``) or of VGG-T³'s."""
    return (VGGT, VGGT_COMMERCIAL, LINGBOT) if softmax else (VGG_T3,)
