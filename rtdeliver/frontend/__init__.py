"""Holds the browsers' streams, and sends them the events of the topics that they watch."""
