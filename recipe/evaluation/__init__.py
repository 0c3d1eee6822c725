"""What a checkpoint's answers are worth: measures, intervals, baselines, entropy, circularity, judges."""
