"""The cli commands layer."""
