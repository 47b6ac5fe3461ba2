"""What the first ten minutes on a GPU should tell: see ``scripts/gpu-check --help``."""
