"""Takes events from producers, and delivers each to the frontends that have viewers of it."""
