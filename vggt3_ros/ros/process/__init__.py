"""The node's view of the worker process: when it refines, what it publishes, what it localizes.
Needs no rclpy.
"""
