"""Golden numbers of the published blocks: cases, arrays and the fill scheme that keeps computed tables."""
