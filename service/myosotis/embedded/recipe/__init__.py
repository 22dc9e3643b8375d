"""The recipe that makes Petal, one stage after another, from openly licensed icons."""
