/* What the files of the test image share. The image runs a bundle's cases in an emulator; no firmware needs it. */
#ifndef CROSSFARM_IMAGE_H
#define CROSSFARM_IMAGE_H

#include <stdint.h>

/* Exit codes beside those of crossfarm_status. */
enum {
  IMAGE_BAD_BUNDLE = 3,   /* inputs are missing or of another size */
  IMAGE_HOST_FAILED = 5,  /* the emulator cannot write what the image says */
  IMAGE_OVERRUN = 6,      /* the model wrote behind its arena */
  IMAGE_CRASHED = 7,      /* the processor faulted */
};

int image_main(void);

/* Fill the free stack with a pattern, and see later how far down it is gone. */
void stack_paint(void);
uint32_t stack_peak_bytes(void);

#endif
