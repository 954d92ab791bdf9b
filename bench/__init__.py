"""Measures Fairlead against bare servers, in one run on one machine: ``make bench``."""
