"""A gene model measured without training: likelihood per letter, and what follows from it."""
