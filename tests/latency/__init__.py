"""Tests of rtdeliver.latency."""
