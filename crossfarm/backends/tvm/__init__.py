"""Schedules for CPU targets by rules: what an operator's loops become follows from its shapes and from the processor.

Nothing here is searched or measured at compile time, and nothing is read from the machine that compiles.
"""
