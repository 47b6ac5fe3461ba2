"""The published VGG-T³ network (arXiv 2602.23361) and its softmax parent VGGT (arXiv 2503.11651),
in one class.

The package ships no weights; the user names a file, a folder or a hub id. licences.py lists the
weights that are known to load, and their licences.

Entry points: ``vggt3.Vggt3`` (map and query), ``checkpoint.load_checkpoint``,
``preprocess.prepare_images``.
"""
