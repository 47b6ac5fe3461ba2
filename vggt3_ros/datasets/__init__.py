"""Readers of data sets and bags. Each returns a Recording or a Sequence."""
