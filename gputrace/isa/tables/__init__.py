"""Opcode tables, one module a target."""
