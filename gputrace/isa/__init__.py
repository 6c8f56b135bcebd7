"""What AMD GPU instructions are and do: decoder, disassembler, meaning, and their execution."""
