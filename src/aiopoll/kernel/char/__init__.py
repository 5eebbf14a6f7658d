"""drivers/char: character devices."""
