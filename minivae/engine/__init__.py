"""What a reader of the mathematics need not open: the parameter vector, the registry,
threads and chunks of a batch, noise by counter, run folders, checks of arguments, and
all that a GPU needs.
"""
