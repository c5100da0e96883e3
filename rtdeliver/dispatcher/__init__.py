"""Accepts events from producers and delivers each to the frontends with viewers of its topic."""
