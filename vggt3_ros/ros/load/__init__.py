"""The node under load and under attack: what `vggt3 benchmark node` and `vggt3 soak` measure."""
