"""Stand between the KFD and another process that knows nothing of gputrace.

`preload.c` is loaded into the program and sends its ioctls to a `Server`, which answers them with a
`Kfd` of its own for each process. `tree` makes the files of sysfs that the program reads, `launch`
starts it with all of this in place.
"""
