"""Rigid motions, cameras and alignment: pure numpy, float64, no torch, no ROS."""
