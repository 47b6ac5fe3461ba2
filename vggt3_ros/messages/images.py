"""sensor_msgs Image and CompressedImage -> numpy. Sizes are checked against each other before memory is taken. Imports no ROS."""

from vggt3_ros.messages.encodings import to_depth, to_rgb
from vggt3_ros.store.codec import decode_encoded, encoded_size

__all__ = ["decompress", "encoded_size", "to_depth", "to_rgb"]


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
