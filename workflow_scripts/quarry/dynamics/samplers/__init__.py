"""What looks for candidates on a model in place of thermal trajectories: one file each."""
