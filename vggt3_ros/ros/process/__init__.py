"""The worker process as the node sees it: when it refines, what it published, what it localizes.
Needs no rclpy.
"""
