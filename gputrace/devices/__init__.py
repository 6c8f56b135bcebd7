"""Whoever serves the port: the kernel's KFD on real nodes, or an emulated one in this process."""
