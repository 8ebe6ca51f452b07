"""One training run, for blocks of sequence and for instruction records alike: model, loss, order, checkpoints, launch."""
