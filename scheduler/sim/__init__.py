"""Real and generated traffic against real fleets."""
