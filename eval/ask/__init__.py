"""Asking: what answers (models, adapters, endpoints), how records are asked, and likelihoods of every label."""
