"""The api schemas layer."""
