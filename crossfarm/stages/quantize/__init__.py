"""The stage `quantize`: a float32 model becomes int8."""
