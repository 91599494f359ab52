"""The backend `mera`: EdgeCortix MERA 1.6 for the DNA FPGA cards and Sakura-1."""
