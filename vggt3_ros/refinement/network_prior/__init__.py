"""What a feed-forward network says about the keyframes, checked against odometry and depth
sensors.
"""
