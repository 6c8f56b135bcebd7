"""Capture: a Kfd around another Kfd that writes down what goes through it, before it is rung.

`Recorder` stands where a device stands. At every call of the port it first asks which pages the
CPU wrote since the last one (`gputrace.kfd.tracking`) and compares them with what was last known
(`memory`), so that the trace holds the bytes which the CPU stored and none that the GPU stored.
"""
