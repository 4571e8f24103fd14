"""Training and measuring networks: the loop, its state, devices and processes. It knows no budget."""
