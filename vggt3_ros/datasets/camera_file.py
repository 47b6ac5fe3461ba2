"""camera.yaml: width, height, fx, fy, cx, cy in pixels; depth_scale (a depth of 1 m is stored as
this number); distortion_model and distortion (as CameraInfo has them) where the lens needs them;
skew, K[0, 1], where there is one.
"""

import numpy as np
import yaml

from vggt3_ros.geometry.camera import Camera


def read_camera(path, depth_scale):
    """camera.yaml -> (Camera, depth_scale), the second as given where the file does not say.
    ValueError says what to correct.
    """
    try:
        text = yaml.safe_load(path.read_text())
        if not isinstance(text, dict):
            raise ValueError("it must hold 'name: value' lines")
        camera = Camera(
            *(int(text[key]) for key in ("width", "height")),
            *(float(text[key]) for key in ("fx", "fy", "cx", "cy")),
            text.get("distortion_model") or "",
            tuple(text.get("distortion") or ()),
            float(text.get("skew", 0)),
        )
        depth_scale = float(text.get("depth_scale", depth_scale))
        if not (np.isfinite(depth_scale) and depth_scale > 0):
            raise ValueError(f"depth_scale must be positive, got {depth_scale}")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): write width, height, fx, fy, cx, cy and depth_scale "
            "into it"
        ) from error
    except KeyError as error:
        raise ValueError(
            f"{path}: {error.args[0]} is missing: add a line '{error.args[0]}: value'"
        ) from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}; correct that line") from error
    return camera, depth_scale


def write_camera(path, camera, depth_scale):
    """The file :func:`read_camera` reads."""
    text = {key: getattr(camera, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
    if camera.is_distorted:
        text |= {
            "distortion_model": camera.distortion_model,
            "distortion": list(camera.distortion),
            "skew": float(camera.skew),
        }
    path.write_text(yaml.safe_dump(text | {"depth_scale": depth_scale}, sort_keys=False))
