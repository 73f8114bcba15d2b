"""Query: which candidates are labelled next, and how many."""
