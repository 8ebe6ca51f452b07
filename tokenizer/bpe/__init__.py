"""Gene BPEs on plain letters: windows, exact training, exact encoding in bulk."""
