"""An example front end: visual odometry without loop closing, so that the back end can be tried on
images alone.
"""
