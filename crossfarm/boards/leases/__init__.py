"""Leases: exclusive claims on boards that expire, kept in a database."""
