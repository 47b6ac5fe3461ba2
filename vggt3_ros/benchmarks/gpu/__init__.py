"""A GPU check of ten minutes: see ``scripts/gpu-check --help``."""
