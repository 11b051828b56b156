"""The api middleware layer."""
