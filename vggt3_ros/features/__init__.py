"""Images to features, features matched, and places recognised; frame.py: a keyframe encoded."""
