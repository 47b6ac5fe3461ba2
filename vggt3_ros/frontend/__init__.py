"""From images and poses to keyframes: pairing by stamp, bridging of pose jumps, keyframe selection,
and an example front end (visual odometry without loop closing) to try the back end on images alone.
"""
