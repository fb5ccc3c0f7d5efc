"""The referee: 33 rules of the challenge as tests, and `golf audit`, which runs them on whatever it is given."""
