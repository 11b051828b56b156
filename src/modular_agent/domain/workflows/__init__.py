"""The domain workflows layer."""
