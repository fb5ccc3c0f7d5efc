"""How many bytes a network will take: forecast before and during training, and what is done until it fits."""
