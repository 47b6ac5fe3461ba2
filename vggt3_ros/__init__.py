"""vggt3_ros: a SLAM back end that distils a scene into a network of slots. See README.md.

The library needs no ROS: ``from vggt3_ros import Backend, Camera, Keyframe``.
"""

import pkgutil

from vggt3_ros.system.version import VERSION

# A colcon build installs generated messages as vggt3_ros.msg beside this package; a checkout on
# the path must not hide them.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = VERSION

_EXPORTS = {
    "Backend": "vggt3_ros.backend",
    "BackendConfig": "vggt3_ros.config",
    "Camera": "vggt3_ros.geometry.camera",
    "Keyframe": "vggt3_ros.store.keyframe",
    "KeyframeStore": "vggt3_ros.store.keyframes",
    "SceneMemory": "vggt3_ros.memory.scene_memory",
    "StereoPair": "vggt3_ros.geometry.stereo",
    "Snapshot": "vggt3_ros.store.snapshot",
    "distil": "vggt3_ros.memory.distillation",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> object:
    """Import on first use, so that the ROS node, which only needs numpy, never loads torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'vggt3_ros' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_EXPORTS[name]), name)
