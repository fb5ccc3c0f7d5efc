"""Runs side by side: what differs, which is better and how surely, where one stands among the published entries."""
