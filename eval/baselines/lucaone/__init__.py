"""LucaOne, LucaOne-Gene and LucaOne-Prot as a native transformers model: one architecture, three sets of weights.

    from eval.baselines.lucaone.register import register
    register()                                     # AutoConfig, AutoTokenizer and the Auto models know `lucaone` from here on
    AutoModel.from_pretrained("LucaGroup/LucaOne-default-step36M")

No code of a model repository is run. The original checkpoint layout is read by `checkpoint.load`.
"""
