"""Training of LucaOne's heads on frozen embeddings, and prediction with them: `baseline train`, `baseline predict`."""
