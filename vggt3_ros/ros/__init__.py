"""The ROS 2 border: rclpy is imported below this package alone."""
