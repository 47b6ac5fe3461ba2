"""The predictions of a feed-forward network about the keyframes, checked against odometry and depth
sensors.
"""
