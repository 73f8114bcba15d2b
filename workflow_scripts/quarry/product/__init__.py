"""The data set of a campaign as others take it: split, card, metadata, and exports in formats of other programs."""
