"""The port: one KFD, whoever serves it and whoever uses it.

`port` holds the Protocol that the kernel's KFD, the emulated one and a recorder around either of
them implement; `topology` the nodes that sysfs shows, read from text or made from a family's
facts; `host` the few things that Python cannot do by itself: mappings at fixed addresses, store
fences, atomic addition and undivided 64-bit stores.
"""
