"""``verify doctor``: looks at an installation, says what works, what is missing and how to get it."""
