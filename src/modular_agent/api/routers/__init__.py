"""The api routers layer."""
