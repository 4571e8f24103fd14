"""What a bit more or less of one layer is worth: predicted losses and gradients."""
