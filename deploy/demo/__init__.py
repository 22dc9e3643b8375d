"""The demonstration of the whole loop."""
