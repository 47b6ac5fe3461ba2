"""Services and actions of the node, and the folders of saved maps that they write."""
