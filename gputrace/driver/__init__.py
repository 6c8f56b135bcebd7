"""The driver core: steps that KFD can be asked for and, on top, what a user scripts against."""
