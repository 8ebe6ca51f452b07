"""What comes in: alphabets, spans, formats, and the readers of sequences, tables, UniProt and text."""
