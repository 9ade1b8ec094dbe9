"""Engines: sample numbers and drawn parameters in, one filled batch slot out."""
