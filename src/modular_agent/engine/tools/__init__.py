"""The engine tools layer."""
