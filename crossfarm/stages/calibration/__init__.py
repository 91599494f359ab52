"""The stage `calibration`: inputs for compilers that quantise by themselves."""
