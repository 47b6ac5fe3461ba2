"""All benchmarks in one go, and two such runs compared: `vggt3 benchmark all` and `compare`."""
