"""The version, in the one place that every other one reads it from."""

__version__ = "0.2.0"
