"""Section ``labeling``: one file for each engine, which says what the engine can do; ``registry`` lists them."""
