"""What queues were given: memory at each point, packets, and the kernels that they launch.

`image` is memory as a trace tells of it, `stream` decodes what each doorbell published, `launches`
reads dispatches out of the packets. No device is needed.
"""
