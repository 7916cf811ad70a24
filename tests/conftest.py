"""Fixtures for every test."""

from tests.databases import empty_engine, engine, postgres

__all__ = ["empty_engine", "engine", "postgres"]
