"""Tests of rtdeliver.revocations."""
