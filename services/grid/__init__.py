"""The grid service."""
