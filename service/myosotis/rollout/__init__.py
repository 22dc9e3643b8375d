"""Which generation is served where."""
