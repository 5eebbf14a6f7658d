"""Helpers of the tests of several rooms; the fixtures are in tests/conftest.py."""
