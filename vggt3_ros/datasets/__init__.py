"""Readers of data sets and bags: each yields a Recording or a Sequence."""
