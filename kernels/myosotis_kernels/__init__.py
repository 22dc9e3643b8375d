"""GPU kernels of Myosotis. They know nothing of the service around them."""
