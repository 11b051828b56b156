"""The domain history layer."""
