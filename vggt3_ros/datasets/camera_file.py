"""Read and write camera.yaml.

width, height, fx, fy, cx, cy in pixels; depth_scale (a depth of 1 m is stored as this number);
distortion_model and distortion as in CameraInfo, if the lens needs them; skew, K[0, 1], if it is
not 0.
"""

from pathlib import Path

import numpy as np
import yaml

from vggt3_ros.geometry.camera import Camera


def read_camera(path: Path, depth_scale: float) -> tuple[Camera, float]:
    """Return the camera and the depth_scale of a camera.yaml; `depth_scale` is the default of the
    latter. Raise ValueError, which says what to correct.
    """
    try:
        text = yaml.safe_load(path.read_text())
        if not isinstance(text, dict):
            raise ValueError("it must contain 'name: value' lines")
        width, height = (int(text[key]) for key in ("width", "height"))
        fx, fy, cx, cy = (float(text[key]) for key in ("fx", "fy", "cx", "cy"))
        camera = Camera(
            width,
            height,
            fx,
            fy,
            cx,
            cy,
            text.get("distortion_model") or "",
            tuple(text.get("distortion") or ()),
            float(text.get("skew", 0)),
        )
        depth_scale = float(text.get("depth_scale", depth_scale))
        if not (np.isfinite(depth_scale) and depth_scale > 0):
            raise ValueError(f"depth_scale must be positive, got {depth_scale}")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): create it with width, height, fx, fy, cx, cy and "
            "depth_scale"
        ) from error
    except KeyError as error:
        raise ValueError(
            f"{path}: {error.args[0]} is missing: add a line '{error.args[0]}: value'"
        ) from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}; correct this entry") from error
    return camera, depth_scale


def write_camera(path: Path, camera: Camera, depth_scale: float) -> None:
    """Write a file that :func:`read_camera` reads."""
    text = {key: getattr(camera, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
    if camera.is_distorted:
        text |= {
            "distortion_model": camera.distortion_model,
            "distortion": list(camera.distortion),
            "skew": float(camera.skew),
        }
    path.write_text(yaml.safe_dump(text | {"depth_scale": depth_scale}, sort_keys=False))
