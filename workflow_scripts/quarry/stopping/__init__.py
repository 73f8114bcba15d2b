"""Facts of an iteration, and the rules that end a campaign."""
