"""The domain runs layer."""
