"""Programs that talk to a running node: the demo, replay, and node processes."""
