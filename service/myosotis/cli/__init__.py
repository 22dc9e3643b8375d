"""Commands, and the composition root of each process."""
