"""Triton kernels and what they need: how a kernel is compiled from its text, and when it can be used."""
