/* The weights as constants, in a section of their own that a linker script may place. CROSSFARM_WEIGHTS_HEADER_BYTES of
 * model_tables.h stand before them in the file. */
  .syntax unified
  .section .rodata.crossfarm_weights, "a", %progbits
  .balign 64
  .global crossfarm_weights
  .hidden crossfarm_weights
  .type crossfarm_weights, %object
crossfarm_weights:
  .incbin "weights.bin", 64
  .size crossfarm_weights, . - crossfarm_weights
