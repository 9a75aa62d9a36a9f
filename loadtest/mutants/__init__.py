"""Seeded bugs in the engine, each with the test that must fail of it."""
