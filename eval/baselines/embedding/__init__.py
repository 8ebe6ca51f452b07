"""Embeddings of sequences: encoders behind one interface, windows over long sequences, stores on disk, `baseline embed`."""
