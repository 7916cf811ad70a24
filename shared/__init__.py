"""The machinery, which knows no business word."""
