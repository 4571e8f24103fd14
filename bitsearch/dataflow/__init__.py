"""What a network does in one forward pass: which tensor came from which module call, and along which axes."""
