"""The published VGG-T³ network (arXiv 2602.23361) and its softmax parent VGGT (arXiv 2503.11651), in one class.

The package ships no weights. The VGG-T³ weights (``nvidia/vgg-ttt``) are under the NVIDIA OneWay Noncommercial licence, the
VGGT weights (``facebook/VGGT-1B``) under Meta's VGGT licence; the user names a file, a folder or a hub id.

Entry points: ``vggt3.Vggt3`` (map and query), ``checkpoint.load_checkpoint``, ``preprocess.prepare_images``.
"""
