"""The ROS 2 interface. rclpy is imported only in this package."""
