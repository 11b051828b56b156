"""The engine spec layer."""
