"""The one model has no table."""
