"""The engine nodes layer."""
