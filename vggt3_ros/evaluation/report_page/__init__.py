"""One self-contained HTML page about a refined map: paths, errors, loops, localization, scene
memory, seconds and memory.
"""
