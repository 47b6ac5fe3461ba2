"""The node's services and actions, and the map folders that they write."""
