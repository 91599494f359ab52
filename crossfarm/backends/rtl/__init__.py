"""The backend rtl: an accelerator core in Verilog for one model, made by NNgen and simulated by Verilator."""
