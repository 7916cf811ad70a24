"""The services, identical on every node."""
