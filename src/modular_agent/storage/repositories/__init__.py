"""The storage repositories layer."""
