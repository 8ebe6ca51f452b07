"""A model that answers: terminal, tables and FASTA, endpoint and web page."""
