"""Statistics of seeds: tests of a gain, what a number of seeds can show, and the policies of the leaderboard."""
