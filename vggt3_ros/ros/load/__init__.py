"""Programs that load a node, attack it and watch it, for what benchmarks/ measures."""
