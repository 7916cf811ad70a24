"""Topology, rendering and the command line."""
