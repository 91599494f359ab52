"""Exclusive claims on boards that end by themselves, kept in a database."""
