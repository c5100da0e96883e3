"""Presence: which members are online, and publishing when that changes."""
