"""The distilled scene memory: maps image features to map points and localizes images."""
