"""A network as integers: the program, its ranges, its interpreter and its file."""
