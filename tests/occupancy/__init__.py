"""Tests of rtdeliver.occupancy."""
