"""What is known of the libraries that people write spiking networks with, one file each."""
