"""Pages for people: rendered here, complete without JavaScript."""
