"""Histograms of what each node has, by the Message API."""
