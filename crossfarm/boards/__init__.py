"""Boards: the machines, containers and simulators that run bundles."""
