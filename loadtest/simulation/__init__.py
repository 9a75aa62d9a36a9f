"""Histories of the whole worker in virtual time, with seeded faults."""
