"""Convert topics to keyframes in the store."""
