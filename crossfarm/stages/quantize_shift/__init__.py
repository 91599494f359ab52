"""The stage `quantize_shift`: a float32 model becomes int8 with scales that are powers of two, one for each tensor."""
