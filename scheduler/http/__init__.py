"""The HTTP face of a replica: routes, wire shapes, problems, probes."""
