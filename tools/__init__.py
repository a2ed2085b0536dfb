"""What the Makefile calls, and the tests look at."""
