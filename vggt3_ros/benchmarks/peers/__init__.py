"""This package beside other systems, on the same images and the same machine: each contender in a
process of its own, scored by the same code.
"""
