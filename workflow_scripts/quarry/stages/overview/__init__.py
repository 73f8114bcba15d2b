"""The overview: one page of HTML that stands by itself, for whoever asks what was done and whether to believe it."""
