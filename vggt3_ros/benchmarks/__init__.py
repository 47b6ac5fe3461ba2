"""What measures this package."""
