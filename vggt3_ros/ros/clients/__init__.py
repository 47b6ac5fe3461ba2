"""Programs that talk to a running node: the demo, the replay of a sequence, processes with nodes
in them.
"""
