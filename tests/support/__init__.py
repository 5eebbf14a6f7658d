"""What the tests of several rooms share; the fixtures are in tests/conftest.py."""
