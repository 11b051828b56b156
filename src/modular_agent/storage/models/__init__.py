"""The storage models layer."""
