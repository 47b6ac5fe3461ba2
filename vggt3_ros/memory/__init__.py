"""The distilled scene: keys in, map points out, and where an image was taken."""
