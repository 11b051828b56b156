"""The realtime layer."""
