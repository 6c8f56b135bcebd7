"""Capture: a Kfd around another Kfd that writes down what goes through it, before it is rung."""
