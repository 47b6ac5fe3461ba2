"""The map in a browser: a page that reads a store and nothing else, beside a node or without."""
