"""The kit layer."""
