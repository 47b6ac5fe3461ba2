"""Progress of what goes through many items."""


def told_of(items, progress, text):
    """Each of the items, a sequence; progress(text, fraction) is called after each."""
    for k, item in enumerate(items):
        yield item
        progress(text, (k + 1) / len(items))
