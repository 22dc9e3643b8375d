"""The services of the control plane."""
