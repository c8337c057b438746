"""Read configs and command lines, and explain mistakes in them."""
