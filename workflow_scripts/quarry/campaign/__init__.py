"""The campaign as a running thing: paths, manifest, lease, recovery, and what scripts do around their work."""
