"""Image features, matching and place recognition; `frame.py` holds one encoded keyframe."""
