"""The backend `dpu`: an int8 array in the style of AMD's DPU, its partition, tiler, functional model and core."""
