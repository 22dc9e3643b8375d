"""How a model is made to forget."""
