"""The words everybody agrees on."""
