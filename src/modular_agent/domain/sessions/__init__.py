"""The domain sessions layer."""
