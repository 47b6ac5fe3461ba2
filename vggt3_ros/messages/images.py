"""sensor_msgs Image and CompressedImage -> numpy. Sizes are checked against each other before memory is taken. Imports no ROS."""

from vggt3_ros.messages.encodings import to_depth, to_rgb
from vggt3_ros.store.codec import decode_encoded, encoded_size

__all__ = ["decompress", "encoded_size", "to_depth", "to_rgb"]


def check_whole(message, camera):
    """ValueError where the image or depth of a vggt3_ros/Keyframe is cut short or of another size; nothing is decoded."""
    for name in ("image", "depth"):
        raw = getattr(message, name)
        if len(raw.data) < raw.step * raw.height:
            raise ValueError(f"{name}.data holds {len(raw.data)} bytes for {raw.height} rows of {raw.step}")
        if len(raw.data) and name == "image" and (raw.width, raw.height) != (camera.width, camera.height):
            raise ValueError(f"image is {raw.width}x{raw.height}, camera_info says {camera.width}x{camera.height}")
    if not len(message.image.data) and not len(message.compressed_image.data):
        raise ValueError("image and compressed_image are both empty")
    if len(message.compressed_image.data):
        found = encoded_size(bytes(message.compressed_image.data))
        if found != (camera.width, camera.height):
            raise ValueError(f"compressed_image.data is {found[0]}x{found[1]}, camera_info says {camera.width}x{camera.height}")


def decompress(message, width, height, name="compressed_image"):
    """CompressedImage -> ((height, width, 3) uint8 RGB, its bytes). The size is read from the header before it is decoded."""
    data = bytes(message.data)
    try:
        found = encoded_size(data)
        if found != (width, height):
            raise ValueError(f"is {found[0]}x{found[1]}, camera_info says {width}x{height}")
        return decode_encoded(data, width, height), data
    except ValueError as error:
        raise ValueError(f"{name}.data {error} (format '{message.format[:80]}')") from error
