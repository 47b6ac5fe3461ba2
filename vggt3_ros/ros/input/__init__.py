"""Topics to keyframes in the store."""
