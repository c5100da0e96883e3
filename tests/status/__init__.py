"""Tests of rtdeliver.status."""
