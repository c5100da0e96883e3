"""Presence: who is there, and telling of it when that changes."""
