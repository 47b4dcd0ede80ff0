"""What a developer's machine needs and production does not: an embedded server and a demo fleet."""
