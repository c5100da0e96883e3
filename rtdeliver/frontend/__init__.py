"""Holds the browsers' streams, and sends each the events of the topics that it watches."""
