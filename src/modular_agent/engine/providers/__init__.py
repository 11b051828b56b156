"""The engine providers layer."""
