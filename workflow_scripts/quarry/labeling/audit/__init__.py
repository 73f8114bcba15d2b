"""Labels against physics and against each other: what contradicts itself is a finding, never a dropped label."""
