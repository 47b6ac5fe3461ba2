"""Programs that load, disturb and monitor a node, used by benchmarks/."""
