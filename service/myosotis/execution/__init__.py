"""One attempt at a run, and where attempts execute."""
