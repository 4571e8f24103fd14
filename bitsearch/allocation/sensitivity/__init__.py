"""What each layer's bits and time steps are worth to a trained network, measured one by one."""
